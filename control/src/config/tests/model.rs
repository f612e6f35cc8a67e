//! What a good file becomes.

use std::path::Path;
use std::time::Duration;

use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, SchedulerFlags};

use crate::config::{self, Backend, Idle, PortMode, Protocol, Vlan, ZeroCopy};

fn load(text: &str) -> config::Config {
    config::parse(text, "f.toml").unwrap_or_else(|errors| panic!("{}", super::render(&errors)))
}

#[test]
fn a_port_alone_is_a_configuration() {
    let config = load("[[port]]\ninterface = \"eth0\"\n");
    let director = &config.director;
    assert_eq!(
        (director.backend, director.idle, director.worker_count()),
        (Backend::AfXdp, Idle::Sleep, 1)
    );
    assert_eq!(
        (director.connections, director.service_limit, director.server_limit),
        (1048576, 16384, 65536)
    );
    assert_eq!(director.control_socket, Path::new("/run/ulvs/ulvs.sock"));
    assert_eq!(config.timeouts.tcp_last_ack, Duration::from_secs(30));
    let port = &config.ports[0];
    assert_eq!(
        (port.name.as_str(), port.interface.as_str(), port.line),
        ("eth0", "eth0", 1)
    );
    assert_eq!(
        (port.mode, port.zero_copy, port.untagged),
        (PortMode::Auto, ZeroCopy::Auto, true)
    );
    assert!(config.services.is_empty() && config.warnings.is_empty());
}

#[test]
fn director_ports_and_vlans_are_taken_as_written() {
    let config = load(
        "director = { cores = [3, 1], workers = 2, connections = 0x1_0000, idle = \"poll\", frames = 8192 }
        timeouts = { udp = 10 }
        [[port]]
        name = \"trunk\"
        interface = \"eth1\"
        mode = \"generic\"
        zero_copy = \"off\"
        untagged = false
        vlans = [{ id = 5 }, { id = 6, interface = \"eth1.6\" }]",
    );
    let director = &config.director;
    assert_eq!(
        (director.cores.as_slice(), director.worker_count()),
        ([3, 1].as_slice(), 2)
    );
    assert_eq!(
        (director.connections, director.idle, director.frames),
        (65536, Idle::Poll, 8192)
    );
    assert_eq!(
        (config.timeouts.udp, config.timeouts.tcp),
        (Duration::from_secs(10), Duration::from_secs(900))
    );
    let port = &config.ports[0];
    assert_eq!(
        (port.mode, port.zero_copy, port.untagged),
        (PortMode::Generic, ZeroCopy::Off, false)
    );
    let vlan = |id, interface: &str| Vlan {
        id,
        interface: interface.into(),
    };
    assert_eq!(port.vlans, [vlan(5, "eth1"), vlan(6, "eth1.6")]);
}

const DUAL_STACK: &str = r#"
[[port]]
interface = "eth0"

[[local_pool]]
name = "inside"
addresses = ["10.0.2.200", "fd00:2::200"]
ports = "2000-3000"

[[service]]
name = "web"
protocol = "tcp"
address = ["192.0.2.10:80", "[2001:db8::10]:8080"]
scheduler = "sh"
scheduler_flags = ["sh-port", "sh-fallback"]
method = "nat"
local_pool = "inside"
client_address = "toa"

[[service.server]]
address = "10.0.2.11"

[[service.server]]
address = "[fd00:2::12]:81"
weight = 0

[[service.server]]
address = "10.0.2.13:82"
method = "fullnat"
weight = 65535
upper_threshold = 10
lower_threshold = 5

[[service]]
protocol = "udp"
address = "[2001:db8::53]:53"
method = "tun"

[[service.server]]
address = "10.0.2.53:53"
"#;

#[test]
fn a_list_of_addresses_makes_one_service_each_with_the_servers_that_can_serve_it() {
    let config = load(DUAL_STACK);
    let names: Vec<_> = config
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.line))
        .collect();
    assert_eq!(names, [("web", 13), ("web", 13), ("udp [2001:db8::53]:53", 36)]);

    let servers = |service: usize| -> Vec<String> {
        let servers = config.services[service].servers.iter();
        servers
            .map(|server| format!("{} {} {:?}", server.address, server.port, server.method))
            .collect()
    };
    assert_eq!(servers(0), ["10.0.2.11 80 Nat", "10.0.2.13 82 FullNat"]);
    assert_eq!(servers(1), ["fd00:2::12 81 Nat", "10.0.2.13 82 FullNat"]);
    assert_eq!(servers(2), ["10.0.2.53 53 Tunnel"]);
}

#[test]
fn services_and_servers_are_taken_as_written() {
    let config = load(DUAL_STACK);
    let web = &config.services[1];
    assert_eq!(
        (web.protocol, web.address.to_string().as_str(), web.port),
        (Protocol::Tcp, "2001:db8::10", 8080)
    );
    assert_eq!(
        (web.scheduler, web.client_address),
        (SchedulerKind::Sh, ClientAddress::Toa)
    );
    assert_eq!(
        web.scheduler_flags,
        SchedulerFlags {
            fallback: true,
            port: true
        }
    );
    let pool = config
        .local_pool(web.local_pool.as_deref().expect("a pool"))
        .expect("it is there");
    assert_eq!((pool.addresses.len(), pool.ports), (2, (2000, 3000)));

    let server = &config.services[0].servers[1];
    assert_eq!(
        (server.weight, server.upper_threshold, server.lower_threshold),
        (65535, 10, 5)
    );
    assert_eq!((server.method, server.line), (ForwardingMethod::FullNat, 28));

    let dns = &config.services[2];
    assert_eq!(
        (dns.protocol.number(), dns.scheduler, dns.local_pool.as_ref()),
        (17, SchedulerKind::Wlc, None)
    );
    assert_eq!((dns.servers[0].weight, dns.client_address), (1, ClientAddress::Hidden));
}

#[test]
fn mh_takes_as_many_servers_as_its_table_has_places() {
    let servers = |count: usize| -> String {
        let server = |n: usize| format!("[[service.server]]\naddress = \"10.0.{}.{}\"\n", n >> 8, n & 255);
        (0..count).map(server).collect()
    };
    let head = "[[port]]\ninterface = \"eth0\"\n[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.10:80\"\nmethod = \"dr\"\n";
    let mh = format!("{head}scheduler = \"mh\"\n");
    assert_eq!(load(&format!("{mh}{}", servers(4093))).services[0].servers.len(), 4093);
    assert_eq!(
        load(&format!("{head}{}", servers(4094))).services[0].servers.len(),
        4094
    );
    let Err(errors) = config::parse(&format!("{mh}{}", servers(4094)), "f.toml") else {
        panic!("one server too many is taken");
    };
    let told = super::render(&errors);
    assert!(
        told.starts_with("f.toml:5:11: this service has 4094 servers; mh takes at most 4093"),
        "{told}"
    );
}

#[test]
fn flags_are_named_as_in_ipvsadm() {
    let both = SchedulerFlags {
        fallback: true,
        port: true,
    };
    assert_eq!(
        config::scheduler_flag_names(SchedulerKind::Mh, both),
        ["mh-fallback", "mh-port"]
    );
    assert!(config::scheduler_flag_names(SchedulerKind::Rr, both).is_empty());
    assert_eq!(config::scheduler_name(SchedulerKind::Wlc), "wlc");
    assert_eq!(config::method_name(ForwardingMethod::DirectRouting), "dr");
    assert_eq!(config::client_address_name(ClientAddress::ProxyV2), "proxy_v2");
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    let errors = config::load(Path::new("/nonexistent/ulvs.toml")).expect_err("there is no such file");
    let told = super::render(&errors);
    assert!(
        told.starts_with("/nonexistent/ulvs.toml: the configuration file cannot be read: "),
        "{told}"
    );
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_parsed() {
    let path = std::env::temp_dir().join(format!("ulvs-config-too-large-{}.toml", std::process::id()));
    let file = std::fs::File::create(&path).expect("a temporary file");
    file.set_len(config::FILE_LIMIT_BYTES + 1).expect("a sparse file");
    let loaded = config::load(&path);
    std::fs::remove_file(&path).expect("it was there");
    let told = super::render(&loaded.expect_err("it is too large"));
    assert!(
        told.contains(": the configuration file is larger than 16777216 bytes"),
        "{told}"
    );
}
