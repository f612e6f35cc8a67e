//! `ipvsadm -L -c`: connections as text, as ipvsadm 1.31 prints them.

use ulvs_control::api::views::ConnectionView;

use super::names::Names;

/// The two lines above the connections; with `--persistent-conn` there are columns for persistence engines.
pub fn headings(with_engine: bool) -> String {
    let columns = format!("pro expire {:<11} {:<18} {:<18} ", "state", "source", "virtual");
    let last = if with_engine {
        format!("{:<18} {:<16} pe_data", "destination", "pe name")
    } else {
        "destination".to_owned()
    };
    format!("IPVS connection entries\n{columns}{last}\n")
}

/// One connection.
pub fn line(connection: &ConnectionView, names: &Names, with_engine: bool) -> String {
    let protocol = connection.protocol;
    let endpoint = |address: std::net::SocketAddr| names.endpoint(address.ip(), address.port(), protocol);
    let seconds = connection.expires_in_seconds;
    let expire = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let source = endpoint(connection.client);
    let virtual_address = endpoint(connection.virtual_address);
    let start = format!(
        "{protocol:<3} {expire:<6} {:<11} {source:<18} {virtual_address:<18} ",
        connection.state
    );
    let destination = endpoint(connection.server);
    match &connection.persistence_engine {
        Some(engine) if with_engine => {
            // The original reads up to the first blank.
            let data = engine.data.split_whitespace().next().unwrap_or_default();
            format!("{start}{destination:<16} {:<18} {data}\n", engine.name)
        }
        _ => format!("{start}{destination}\n"),
    }
}
