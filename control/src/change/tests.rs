use super::merge::merge;
use super::*;
use crate::api::changes::DaemonRole;
use crate::api::protocol::ErrorCode;
use crate::api::views::{PersistenceView, Protocol, TunnelChecksum, TunnelKind, TunnelView};

const FILE: &str = r#"
[director]
service_limit = 4
server_limit = 6
[[port]]
interface = "eth0"
[[local_pool]]
name = "inside"
addresses = ["10.0.9.1"]
[[service]]
name = "web"
protocol = "tcp"
address = "192.0.2.1:80"
method = "nat"
scheduler = "rr"
[[service.server]]
address = "10.0.0.1:8080"
weight = 3
[[service.server]]
address = "10.0.0.2:8080"
"#;

fn file() -> Config {
    parse(FILE)
}

fn parse(text: &str) -> Config {
    config::parse(text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn tcp(endpoint: &str) -> ServiceKey {
    let endpoint: std::net::SocketAddr = endpoint.parse().unwrap();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: endpoint.ip(),
        port: endpoint.port(),
    }
}

fn web() -> ServiceKey {
    tcp("192.0.2.1:80")
}

fn server(endpoint: &str) -> ServerKey {
    let endpoint: std::net::SocketAddr = endpoint.parse().unwrap();
    ServerKey {
        address: endpoint.ip(),
        port: endpoint.port(),
    }
}

fn scheduler(name: &str) -> ServiceSettings {
    ServiceSettings {
        scheduler: name.to_owned(),
        scheduler_flags: Vec::new(),
        persistence: None,
        persistence_engine: None,
        one_packet: false,
    }
}

fn by(method: Method, weight: u32) -> ServerSettings {
    ServerSettings {
        method,
        tunnel: None,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add_service(service: ServiceKey, name: &str) -> Change {
    Change::AddService {
        service,
        settings: scheduler(name),
    }
}

fn add(service: ServiceKey, endpoint: &str, method: Method) -> Change {
    Change::AddServer {
        service,
        server: server(endpoint),
        settings: by(method, 1),
    }
}

fn edit(endpoint: &str, weight: u32) -> Change {
    Change::EditServer {
        service: web(),
        server: server(endpoint),
        settings: by(Method::Nat, weight),
    }
}

fn made(config: &Config, changes: &[Change]) -> Config {
    let applied = apply(config, changes, false);
    assert_eq!(applied.failures, [], "{changes:?}");
    applied.config.unwrap_or_else(|| config.clone())
}

fn refused(config: &Config, change: Change) -> String {
    let applied = apply(config, std::slice::from_ref(&change), false);
    assert_eq!(applied.failures.len(), 1, "{change:?} was made");
    assert_eq!(applied.config, None);
    applied.failures[0].message.clone()
}

fn weights(config: &Config) -> Vec<(u32, Origin)> {
    config.services[0]
        .servers
        .iter()
        .map(|own| (own.weight, own.origin))
        .collect()
}

#[test]
fn refusals_have_the_kernels_words() {
    let base = file();
    let edit_service = |service, name: &str| Change::EditService {
        service,
        settings: scheduler(name),
    };
    let thresholds = ServerSettings {
        upper_threshold: 5,
        lower_threshold: 9,
        ..by(Method::Nat, 1)
    };
    let delete_server = |service, endpoint: &str| Change::DeleteServer {
        service,
        server: server(endpoint),
    };
    let nobody = tcp("192.0.2.9:80");
    for (change, words) in [
        (add_service(web(), "wlc"), "Service already exists"),
        (add_service(web(), "nosuch"), "Service already exists"),
        (
            add_service(nobody, "nosuch"),
            "Scheduler or persistence engine not found",
        ),
        (edit_service(nobody, "nosuch"), "No such service"),
        (
            edit_service(web(), "nosuch"),
            "Scheduler or persistence engine not found",
        ),
        (Change::DeleteService { service: nobody }, "No such service"),
        (Change::Zero { service: Some(nobody) }, "No such service"),
        (
            Change::DeleteService {
                service: ServiceKey::Fwmark { mark: 7, ipv6: false },
            },
            "No such service",
        ),
        (add(nobody, "10.0.0.1:80", Method::Nat), "Service not defined"),
        (delete_server(nobody, "10.0.0.1:80"), "Service not defined"),
        (add(web(), "10.0.0.1:8080", Method::Nat), "Destination already exists"),
        (delete_server(web(), "10.0.0.1:80"), "No such destination"),
        (edit("10.0.0.9:8080", 1), "No such destination"),
        (
            Change::AddServer {
                service: web(),
                server: server("10.0.0.1:8080"),
                settings: thresholds,
            },
            "Numerical result out of range",
        ),
        (
            Change::StopDaemon {
                role: DaemonRole::Master,
            },
            "No daemon is running",
        ),
    ] {
        assert_eq!(refused(&base, change.clone()), words, "{change:?}");
    }
}

#[test]
fn what_is_missing_is_said_and_nothing_changes() {
    let base = file();
    let new = tcp("192.0.2.9:80");
    let with = |settings| Change::AddService { service: new, settings };
    let ip = ServiceKey::Address {
        protocol: Protocol::Ip,
        address: [192, 0, 2, 9].into(),
        port: 80,
    };
    let persistence = Some(PersistenceView {
        timeout_seconds: 300,
        prefix_length: 32,
    });
    for (change, what) in [
        (add_service(ip, "rr"), "TCP, UDP and SCTP"),
        (
            add_service(ServiceKey::Fwmark { mark: 7, ipv6: true }, "rr"),
            "firewall mark",
        ),
        (
            with(ServiceSettings {
                persistence_engine: Some("sip".to_owned()),
                persistence,
                ..scheduler("rr")
            }),
            "--pe",
        ),
        (
            Change::StartDaemon {
                role: DaemonRole::Backup,
            },
            "synchronisation",
        ),
    ] {
        let said = refused(&base, change);
        assert!(said.contains(what) && said.contains("nothing was changed"), "{said}");
    }
}

#[test]
fn tunnels_are_what_ipvsadm_makes_them() {
    let base = file();
    let tunnelled = |kind, port, checksum| Change::AddServer {
        service: web(),
        server: server("10.0.0.7:80"),
        settings: ServerSettings {
            tunnel: Some(TunnelView { kind, port, checksum }),
            ..by(Method::Tun, 1)
        },
    };
    for (change, wanted) in [
        (tunnelled(TunnelKind::Ipip, 0, TunnelChecksum::None), TunnelType::Ipip),
        (
            tunnelled(TunnelKind::Gue, 6080, TunnelChecksum::Remote),
            TunnelType::Gue {
                port: 6080,
                checksum: GueChecksum::Remote,
            },
        ),
        (
            tunnelled(TunnelKind::Gre, 0, TunnelChecksum::Full),
            TunnelType::Gre { checksum: true },
        ),
    ] {
        assert_eq!(made(&base, &[change]).services[0].servers[2].tunnel, wanted);
    }
    let gue = tunnelled(TunnelKind::Gue, 0, TunnelChecksum::None);
    assert!(refused(&base, gue).contains("UDP port"));
    let gre = tunnelled(TunnelKind::Gre, 0, TunnelChecksum::Remote);
    assert!(refused(&base, gre).contains("no remote checksum"));
}

#[test]
fn the_files_rules_hold_for_the_command_line() {
    let base = file();
    let heavy = Change::AddServer {
        service: web(),
        server: server("10.0.0.7:80"),
        settings: by(Method::Nat, 65_536),
    };
    for (change, what) in [
        (add(web(), "192.0.2.1:80", Method::Nat), "also a virtual address"),
        (add(web(), "10.0.9.1:80", Method::Nat), "also a local address"),
        (add(web(), "224.0.0.1:80", Method::Nat), "multicast"),
        (add(web(), "[2001:db8::1]:80", Method::Nat), "between IPv4 and IPv6"),
        (add(web(), "10.0.0.7:80", Method::Fullnat), "--add-laddr"),
        (heavy, "at most 65535"),
        (
            add_service(tcp("10.0.0.1:80"), "rr"),
            "also the address of a real server",
        ),
        (add_service(tcp("10.0.9.1:80"), "rr"), "also a local address"),
        (add_service(tcp("127.0.0.1:80"), "rr"), "loopback"),
    ] {
        let said = refused(&base, change);
        assert!(said.starts_with("Invalid operation: ") && said.contains(what), "{said}");
    }
    let five: Vec<_> = (10..15)
        .map(|last| add(web(), &format!("10.0.0.{last}:80"), Method::Nat))
        .collect();
    let applied = apply(&base, &five, false);
    assert_eq!(applied.config.unwrap().services[0].servers.len(), 6);
    assert_eq!(
        (applied.failures[0].index, applied.failures[0].code),
        (4, ErrorCode::NoRoom)
    );
    assert!(applied.failures[0].message.starts_with("Memory allocation problem: "));
}

#[test]
fn each_change_that_can_be_made_is_made_unless_all_must_be() {
    let base = file();
    let changes = [
        edit("10.0.0.1:8080", 7),
        add_service(web(), "rr"),
        add_service(tcp("192.0.2.2:80"), "wrr"),
        add(tcp("192.0.2.2:80"), "10.0.0.1:0", Method::Dr),
        edit("10.0.0.9:8080", 7),
    ];
    let applied = apply(&base, &changes, false);
    assert_eq!(applied.failures.iter().map(|own| own.index).collect::<Vec<_>>(), [1, 4]);
    let config = applied.config.unwrap();
    assert_eq!(weights(&config), [(7, Origin::Edited), (1, Origin::File)]);
    let new = &config.services[1];
    assert_eq!((new.origin, new.servers[0].port), (Origin::CommandLine, 80));

    let applied = apply(&base, &changes, true);
    assert_eq!(applied.failures.iter().map(|own| own.index).collect::<Vec<_>>(), [1]);
    assert_eq!(applied.config, None);
}

#[test]
fn every_scheduler_and_protocol_of_the_director_is_there() {
    let base = file();
    for (kind, port) in SchedulerKind::ALL.iter().zip(1000..) {
        let sctp = ServiceKey::Address {
            protocol: Protocol::Sctp,
            address: [192, 0, 2, 9].into(),
            port,
        };
        let config = made(&base, &[add_service(sctp, kind.name())]);
        assert_eq!(
            (config.services[1].scheduler, config.services[1].protocol),
            (*kind, config::Protocol::Sctp)
        );
    }
}

#[test]
fn the_port_of_dr_and_tun_is_the_services_whatever_was_given() {
    let base = file();
    let config = made(&base, &[add(web(), "10.0.0.3:8080", Method::Dr)]);
    assert_eq!(config.services[0].servers[2].port, 80);
    assert_eq!(
        refused(&config, add(web(), "10.0.0.3:9999", Method::Tun)),
        "Destination already exists"
    );
}

#[test]
fn a_flush_takes_everything_and_what_is_deleted_can_come_again() {
    let base = file();
    let local = Change::AddLocalAddress {
        service: web(),
        address: [10, 0, 9, 2].into(),
    };
    let config = made(&base, &[local, Change::Flush]);
    assert!(config.services.is_empty());
    assert_eq!(config.local_pools, base.local_pools);
    // Addresses are free again for another use.
    let again = [
        add_service(tcp("10.0.0.1:80"), "rr"),
        add(tcp("10.0.0.1:80"), "192.0.2.1:80", Method::Nat),
        add_service(tcp("10.0.9.2:80"), "rr"),
    ];
    assert_eq!(made(&config, &again).services.len(), 2);
}

#[test]
fn local_addresses_make_a_pool_of_the_services_own() {
    let base = file();
    let local = |address: &str| Change::AddLocalAddress {
        service: web(),
        address: address.parse().unwrap(),
    };
    let delete = |address: &str| Change::DeleteLocalAddress {
        service: web(),
        address: address.parse().unwrap(),
    };
    let full_nat = add(web(), "10.0.0.7:80", Method::Fullnat);
    let config = made(&base, &[local("10.0.9.2"), full_nat.clone(), local("fd00::2")]);
    let service = &config.services[0];
    let pool = config.local_pool(service.local_pool.as_deref().unwrap()).unwrap();
    assert_eq!((pool.addresses.len(), pool.ports, pool.line), (2, (1025, 65535), 0));
    assert_eq!(service.origin, Origin::Edited);
    assert_eq!(refused(&config, local("10.0.9.2")), "Local address already exists");
    assert_eq!(refused(&config, delete("10.0.9.3")), "No such local address");
    assert!(refused(&config, delete("10.0.9.2")).contains("delete the server first"));
    assert!(refused(&config, local("10.0.0.1")).contains("also the address of a real server"));
    assert!(refused(&config, local("192.0.2.1")).contains("also a virtual address"));
    // Without addresses there is no pool, and with the service it goes too.
    let gone = made(
        &config,
        &[
            Change::DeleteServer {
                service: web(),
                server: server("10.0.0.7:80"),
            },
            delete("10.0.9.2"),
            delete("fd00::2"),
        ],
    );
    assert_eq!(
        (gone.local_pools.len(), gone.services[0].local_pool.as_deref()),
        (1, None)
    );
    assert_eq!(
        made(&config, &[Change::DeleteService { service: web() }])
            .local_pools
            .len(),
        1
    );
}

#[test]
fn timeouts_of_zero_stay() {
    let base = file();
    let set = |tcp_seconds, tcp_fin_seconds, udp_seconds| Change::SetTimeouts {
        tcp_seconds,
        tcp_fin_seconds,
        udp_seconds,
    };
    let timeouts = made(&base, &[set(1000, 60, 200), set(0, 0, 30)]).timeouts;
    assert_eq!(
        [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].map(|own| own.as_secs()),
        [1000, 60, 30]
    );
    assert_eq!(
        refused(&base, set(0, 0, 31 * 86_400 + 1)),
        "Numerical result out of range"
    );
}

#[test]
fn scheduler_flags_are_those_of_the_scheduler() {
    let flags = |name: &str, flags: &[&str]| Change::EditService {
        service: web(),
        settings: ServiceSettings {
            scheduler_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..scheduler(name)
        },
    };
    let base = file();
    let both = SchedulerFlags {
        fallback: true,
        port: true,
    };
    for words in [["sh-port", "sh-fallback"], ["flag-1", "flag-2"]] {
        assert_eq!(made(&base, &[flags("sh", &words)]).services[0].scheduler_flags, both);
    }
    assert!(refused(&base, flags("rr", &["flag-1"])).contains("has no flag"));
}

// What a reload makes of it.

#[test]
fn an_edit_holds_until_the_file_says_something_new() {
    let old = file();
    let running = made(&old, &[edit("10.0.0.1:8080", 0), edit("10.0.0.2:8080", 0)]);
    let new = parse(&FILE.replace("weight = 3", "weight = 5"));
    let merged = merge(&old, &running, new).unwrap();
    assert_eq!(weights(&merged), [(5, Origin::File), (0, Origin::Edited)]);
    // Once more with the same file: the edit holds on.
    let again = merge(&parse(&FILE.replace("weight = 3", "weight = 5")), &merged, old).unwrap();
    assert_eq!(weights(&again), [(3, Origin::File), (0, Origin::Edited)]);
}

#[test]
fn edited_settings_hold_until_the_file_says_something_new() {
    let old = file();
    let to_sh = Change::EditService {
        service: web(),
        settings: scheduler("sh"),
    };
    let set = Change::SetTimeouts {
        tcp_seconds: 77,
        tcp_fin_seconds: 0,
        udp_seconds: 0,
    };
    let running = made(&old, &[to_sh, set]);
    let merged = merge(&old, &running, file()).unwrap();
    assert_eq!(merged.services[0].scheduler, SchedulerKind::Sh);
    assert_eq!(merged.timeouts.tcp.as_secs(), 77);
    let new = parse(&(FILE.replace("\"rr\"", "\"lc\"") + "[timeouts]\nudp = 9\n"));
    let merged = merge(&old, &running, new).unwrap();
    assert_eq!(
        (merged.services[0].scheduler, merged.services[0].origin),
        (SchedulerKind::Lc, Origin::File)
    );
    assert_eq!((merged.timeouts.tcp.as_secs(), merged.timeouts.udp.as_secs()), (900, 9));
}

#[test]
fn what_the_command_line_made_stays_and_what_it_deleted_comes_back() {
    let old = file();
    let other = tcp("192.0.2.2:80");
    let running = made(
        &old,
        &[
            Change::DeleteServer {
                service: web(),
                server: server("10.0.0.1:8080"),
            },
            add(web(), "10.0.0.5:80", Method::Nat),
            add_service(other, "rr"),
            Change::AddLocalAddress {
                service: other,
                address: [10, 0, 9, 7].into(),
            },
            add(other, "10.0.0.6:80", Method::Fullnat),
        ],
    );
    let merged = merge(&old, &running, file()).unwrap();
    let ports: Vec<_> = merged.services[0]
        .servers
        .iter()
        .map(|own| (own.address.to_string(), own.origin))
        .collect();
    let wanted = [
        ("10.0.0.1", Origin::File),
        ("10.0.0.2", Origin::File),
        ("10.0.0.5", Origin::CommandLine),
    ];
    assert_eq!(ports, wanted.map(|(address, origin)| (address.to_owned(), origin)));
    assert_eq!((merged.services.len(), merged.local_pools.len()), (2, 2));
    assert_eq!(merged.services[1], running.services[1]);

    // A file without the service takes its servers along, whoever made them.
    let without = parse(&FILE[..FILE.find("[[service]]").unwrap()]);
    let merged = merge(&old, &running, without).unwrap();
    assert_eq!(merged.services.len(), 1);
    assert_eq!(merged.services[0].address.to_string(), "192.0.2.2");
    assert_eq!(merge(&old, &made(&old, &[Change::Flush]), file()).unwrap(), old);
}

#[test]
fn a_service_that_the_file_brings_is_the_files() {
    let empty = parse(&FILE[..FILE.find("[[service]]").unwrap()]);
    let running = made(
        &empty,
        &[
            add_service(web(), "sh"),
            add(web(), "10.0.0.1:8080", Method::Nat),
            add(web(), "10.0.0.9:8080", Method::Nat),
        ],
    );
    let merged = merge(&empty, &running, file()).unwrap();
    let service = &merged.services[0];
    assert_eq!((service.scheduler, service.origin), (SchedulerKind::Rr, Origin::File));
    assert_eq!(
        weights(&merged),
        [(3, Origin::File), (1, Origin::File), (1, Origin::CommandLine)]
    );
}

#[test]
fn a_file_that_breaks_a_rule_together_with_the_command_line_is_refused() {
    let old = file();
    let running = made(&old, &[add(web(), "10.0.0.5:80", Method::Nat)]);
    let new = parse(&FILE.replace("10.0.9.1", "10.0.0.5"));
    let error = merge(&old, &running, new).unwrap_err().to_string();
    assert!(error.contains("10.0.0.5 is also a local address"), "{error}");
}

/// Ten thousand services in one go, and each line of them costs the same.
#[test]
fn large_tables_are_no_worse_than_small_ones() {
    let mut base = parse(&FILE[..FILE.find("[[service]]").unwrap()]);
    base.director.service_limit = 10_000;
    base.director.server_limit = 20_000;
    let mut changes = Vec::new();
    for number in 0..10_000_u32 {
        let key = tcp(&format!("198.18.{}.{}:80", number / 250, 1 + number % 250));
        changes.push(add_service(key, "rr"));
        changes.push(add(
            key,
            &format!("10.1.{}.{}:80", number / 250, 1 + number % 250),
            Method::Nat,
        ));
        changes.push(add(key, "10.2.0.1:80", Method::Nat));
    }
    let config = made(&base, &changes);
    assert_eq!(config.services.len(), 10_000);
    let merged = merge(&base, &config, base.clone()).unwrap();
    assert_eq!(merged.services.len(), 10_000);
}

#[test]
fn persistence_comes_changes_and_goes() {
    let base = file();
    let persistent = |timeout_seconds, prefix_length| ServiceSettings {
        persistence: Some(PersistenceView {
            timeout_seconds,
            prefix_length,
        }),
        ..scheduler("rr")
    };
    let edit = |settings| Change::EditService {
        service: web(),
        settings,
    };
    let mut config = made(&base, &[edit(persistent(300, 24))]);
    let found = config.services[0].persistence.unwrap();
    assert_eq!(
        (found.timeout_s, found.prefix_length, found.keeps_quiesced),
        (300, 24, false)
    );
    // What ipvsadm has no option for stays.
    config.services[0].persistence.as_mut().unwrap().keeps_quiesced = true;
    let config = made(&config, &[edit(persistent(60, 32))]);
    let found = config.services[0].persistence.unwrap();
    assert_eq!(
        (found.timeout_s, found.prefix_length, found.keeps_quiesced),
        (60, 32, true)
    );
    assert_eq!(made(&config, &[edit(scheduler("rr"))]).services[0].persistence, None);
    // Port 0 stands for all ports; its servers keep the client's.
    let all_ports = tcp("192.0.2.9:0");
    assert!(refused(&base, add_service(all_ports, "rr")).contains("-p"));
    let add_all = Change::AddService {
        service: all_ports,
        settings: persistent(300, 32),
    };
    let config = made(&base, &[add_all, add(all_ports, "10.0.0.9:80", Method::Nat)]);
    assert_eq!(config.services.last().unwrap().servers[0].port, 0);
    let read = crate::config::parse(&crate::config::to_toml(&config), "saved").unwrap();
    assert_eq!(read.services.last().unwrap().port, 0);
    for wrong in [
        persistent(0, 32),
        persistent(31 * 86_400 + 1, 32),
        persistent(300, 0),
        persistent(300, 33),
    ] {
        refused(&config, edit(wrong));
    }
}
