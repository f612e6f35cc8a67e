//! What is written reads back as the same.

use crate::config::{self, Config};

fn parse(text: &str) -> Config {
    config::parse(text, "test").unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

/// Lines are places in another file.
fn without_lines(mut config: Config) -> Config {
    config.ports.iter_mut().for_each(|port| port.line = 0);
    config.local_pools.iter_mut().for_each(|pool| pool.line = 0);
    config.services.iter_mut().for_each(|service| {
        service.line = 0;
        service.servers.iter_mut().for_each(|server| server.line = 0);
    });
    config
        .services
        .sort_by_key(|service| (service.address, service.port, service.protocol.number()));
    config.warnings.clear();
    config
}

fn assert_reads_back(config: Config) -> String {
    let text = config::to_toml(&config);
    assert_eq!(without_lines(parse(&text)), without_lines(config), "{text}");
    text
}

fn repository(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_example_reads_back_as_it_was() {
    for file in [
        "config/ulvs.toml",
        "config/examples/direct-routing.toml",
        "config/examples/full-nat.toml",
        "config/examples/mixed.toml",
        "config/examples/nat.toml",
        "config/examples/tunnel.toml",
    ] {
        let config = parse(&repository(file));
        let services = repository(file).matches("\n[[service]]").count();
        let text = assert_reads_back(config);
        assert_eq!(text.matches("[[service]]").count(), services, "{file}\n{text}");
    }
}

#[test]
fn odd_names_and_paths_read_back() {
    assert_reads_back(parse(
        r#"
[director]
cores = [1, 3]
control_socket = "/run/a \"b\"/ulvs.sock"
[[port]]
interface = "eth0"
name = 'out "side"'
[[service]]
name = "wéb 'x'"
protocol = "udp"
address = "192.0.2.1:53"
method = "dr"
[[service]]
protocol = "tcp"
address = "192.0.2.1:53"
method = "tun"
tunnel = "gue"
tunnel_port = 6080
tunnel_checksum = "remote"
[[service.server]]
address = "10.0.0.1"
[[service.server]]
address = "10.0.0.2"
tunnel = "gre"
tunnel_checksum = "full"
[[service.server]]
address = "10.0.0.3"
tunnel = "ipip"
tunnel_checksum = "none"
"#,
    ));
}

#[test]
fn dpdks_part_reads_back() {
    let config = parse(
        r#"
[director]
backend = "dpdk"
slow_path_pps = 77
[dpdk]
huge_pages = "off"
memory_mib = 64
eal_arguments = ["--log-level=8"]
[[port]]
name = "outside"
device = "0000:3b:00.0"
mtu = 9000
vlans = [{ id = 5 }]
"#,
    );
    let text = assert_reads_back(config);
    assert_eq!(parse(&text).warnings, []);
}

/// Two addresses of one `[[service]]` of which one was changed: two services, of which one keeps the name.
#[test]
fn addresses_that_became_different_are_written_apart() {
    let mut config = parse(
        r#"
[[port]]
interface = "eth0"
[[service]]
name = "web"
protocol = "tcp"
address = ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"]
method = "nat"
[[service.server]]
address = "10.0.0.1:80"
[[service.server]]
address = "10.0.0.2:80"
"#,
    );
    config.services[1].servers[0].weight = 0;
    let text = config::to_toml(&config);
    let mut read = without_lines(parse(&text));
    assert_eq!(read.services[1].name, "tcp 192.0.2.2:80");
    read.services[1].name = "web".to_owned();
    assert_eq!(read, without_lines(config), "{text}");
    assert_eq!(text.matches("[[service]]").count(), 2, "{text}");
}

#[test]
fn a_pool_without_a_fullnat_server_is_kept_without_a_warning() {
    let mut config = parse(
        r#"
[[port]]
interface = "eth0"
[[local_pool]]
name = "inside"
addresses = ["10.0.9.1"]
[[service]]
protocol = "tcp"
address = "192.0.2.1:80"
method = "fullnat"
local_pool = "inside"
client_address = "toa"
[[service.server]]
address = "10.0.0.1:80"
[[service.server]]
address = "10.0.0.2:80"
method = "nat"
"#,
    );
    config.services[0].servers.remove(0);
    let text = assert_reads_back(config.clone());
    assert_eq!(parse(&text).warnings, []);
    config.services[0].servers.clear();
    assert_reads_back(config);
}
