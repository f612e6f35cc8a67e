//! `ulvs proc`: what a kernel director shows under `/proc/net`, in the kernel's layout, for what reads that.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::ControlFlow;

use clap::ValueEnum;
use ulvs_control::api::protocol::ConnectionFilter;
use ulvs_control::api::views::{ConnectionView, Rates, ServiceView, TotalsView, Traffic};
use ulvs_control::api::{Client, ClientError};

use super::ipvsadm::listing::{self, method_name, netmask};

/// `HZ` of the kernel that the layout is of: it prints the persistence timeout in these.
const JIFFIES_PER_SECOND: u64 = 100;

/// The files there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum File {
    /// Services and servers
    #[value(name = "ip_vs")]
    Services,
    /// Connections
    #[value(name = "ip_vs_conn")]
    Connections,
    /// Connections, and whether they were synchronised
    #[value(name = "ip_vs_conn_sync")]
    SynchronisedConnections,
    /// Traffic of all services together
    #[value(name = "ip_vs_stats")]
    Stats,
    /// The same by worker
    #[value(name = "ip_vs_stats_percpu")]
    StatsPerWorker,
    /// Application helpers (there are none)
    #[value(name = "ip_vs_app")]
    Helpers,
}

/// What the file says now.
pub fn text(file: File, client: &mut Client) -> Result<String, ClientError> {
    match file {
        File::Services => {
            let size = client.director()?.connection_table_size;
            Ok(services(size, &client.services(None)?))
        }
        File::Connections | File::SynchronisedConnections => {
            let synchronised = file == File::SynchronisedConnections;
            let mut text = connection_headings(synchronised).to_owned();
            client.connections(&ConnectionFilter::default(), |connection| {
                text += &connection_line(&connection, synchronised);
                ControlFlow::Continue(())
            })?;
            Ok(text)
        }
        File::Stats => Ok(stats(&client.totals()?)),
        File::StatsPerWorker => Ok(stats_per_cpu(&client.totals()?)),
        File::Helpers => Ok("prot port    usecnt name\n".to_owned()),
    }
}

/// `ip_vs_info_seq_show`
pub fn services(connection_table_size: u64, services: &[ServiceView]) -> String {
    let mut text = listing::banner(connection_table_size);
    text += "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";
    for service in services {
        text += &service_line(service);
        for server in &service.servers {
            let name = endpoint(server.address, server.port);
            let method = method_name(server.method);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  -> {name}      {method:<7} {:<6} {:<10} {:<10}",
                server.weight, server.active, server.inactive
            );
        }
    }
    text
}

fn service_line(service: &ServiceView) -> String {
    // The kernel prints it for IPv4 and for marks.
    let one_packet = if service.one_packet { "ops " } else { "" };
    let scheduler = &service.scheduler;
    let mut line = match (service.fwmark, service.address) {
        (Some(mark), _) => format!("FWM  {mark:08X} {scheduler} {one_packet}"),
        (None, IpAddr::V6(_)) => {
            format!(
                "{}  {} {scheduler} ",
                service.protocol,
                endpoint(service.address, service.port)
            )
        }
        (None, IpAddr::V4(_)) => {
            let name = endpoint(service.address, service.port);
            format!("{}  {name} {scheduler} {one_packet} ", service.protocol)
        }
    };
    if let Some(persistence) = &service.persistence {
        let mask = match service.address {
            IpAddr::V4(_) => netmask(persistence.prefix_length),
            // A length there, but printed like a mask: in network order.
            IpAddr::V6(_) => u32::from(persistence.prefix_length).swap_bytes(),
        };
        let jiffies = u64::from(persistence.timeout_seconds) * JIFFIES_PER_SECOND;
        line += &format!("persistent {jiffies} {mask:08X}");
    }
    line + "\n"
}

/// Addresses and ports in hexadecimal; IPv6 with all its zeros.
fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => groups(v6),
    }
}

fn groups(address: Ipv6Addr) -> String {
    address.segments().map(|group| format!("{group:04x}")).join(":")
}

fn endpoint(own: IpAddr, port: u16) -> String {
    if own.is_ipv6() {
        format!("[{}]:{port:04X}", address(own))
    } else {
        format!("{}:{port:04X}", address(own))
    }
}

/// The first line of `ip_vs_conn`, or of `ip_vs_conn_sync`.
pub fn connection_headings(synchronised: bool) -> &'static str {
    if synchronised {
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n"
    } else {
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
    }
}

/// `ip_vs_conn_seq_show`, `ip_vs_conn_sync_seq_show`
pub fn connection_line(connection: &ConnectionView, synchronised: bool) -> String {
    let ends = [connection.client, connection.virtual_address, connection.server];
    let ends = ends
        .map(|end| format!("{} {:04X}", address(end.ip()), end.port()))
        .join(" ");
    let (protocol, state, seconds) = (connection.protocol, &connection.state, connection.expires_in_seconds);
    if synchronised {
        return format!("{protocol:<3} {ends} {state:<11} {:<6} {seconds:>7}\n", "LOCAL");
    }
    let engine = connection.persistence_engine.as_ref();
    let engine = engine
        .map(|engine| format!(" {} {}", engine.name, engine.data))
        .unwrap_or_default();
    format!("{protocol:<3} {ends} {state:<11} {seconds:>7}{engine}\n")
}

fn traffic_columns(traffic: &Traffic) -> String {
    let Traffic {
        connections,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
    } = traffic;
    format!("{connections:>8X} {packets_in:>8X} {packets_out:>8X} {bytes_in:>16X} {bytes_out:>16X}\n")
}

fn rate_columns(rates: &Rates) -> String {
    traffic_columns(&Traffic {
        connections: rates.connections,
        packets_in: rates.packets_in,
        packets_out: rates.packets_out,
        bytes_in: rates.bytes_in,
        bytes_out: rates.bytes_out,
    })
}

/// `ip_vs_stats_show`
pub fn stats(totals: &TotalsView) -> String {
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n{}\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n{}",
        traffic_columns(&totals.total()),
        rate_columns(&totals.rates)
    )
}

/// `ip_vs_stats_percpu_show`, with workers in the place of CPUs
pub fn stats_per_cpu(totals: &TotalsView) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\nCPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (worker, traffic) in totals.workers.iter().enumerate() {
        text += &format!("{worker:>3X} {}", traffic_columns(traffic));
    }
    text += &format!("  ~ {}", traffic_columns(&totals.total()));
    text += "\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n";
    text + &format!("    {}", rate_columns(&totals.rates))
}
