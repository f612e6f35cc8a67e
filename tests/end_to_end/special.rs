//! What needs a lab or a configuration of its own: lost frames, MTUs, tags, the client's address behind FullNAT, closed services.

use crate::Case;
use crate::client::{self, About};
use crate::config::{
    Family::{self, V4, V6},
    Method::{self, DirectRouting, FullNat, Nat, Tunnel},
    Service, with_port,
};
use crate::director::Director;
use crate::kernel;
use crate::lab::{self, Lab, Shape, address};
use crate::traffic;

fn two_arms(method: Method, client: Family, servers: Family) -> Case {
    Case {
        method,
        client,
        servers,
        arms: 2,
        workers: 1,
    }
}

const METHODS: [Method; 4] = [Nat, DirectRouting, Tunnel, FullNat];
const FAMILIES: [Family; 2] = [V4, V6];

/// Every method in both families, without translation between them.
fn all_cases() -> Vec<Case> {
    METHODS
        .iter()
        .flat_map(|method| FAMILIES.map(|family| two_arms(*method, family, family)))
        .collect()
}

#[test]
fn transfers_survive_lost_frames() {
    let Some(lab) = Lab::up("lost_frames", lab::USUAL) else {
        return;
    };
    let cases = all_cases();
    let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
    lab.lose_frames();
    for case in &cases {
        eprintln!("{case:?}");
        client::download(&lab, traffic::vip(case), 1_000_000, &[]);
        client::upload(&lab, traffic::vip(case), 1_000_000);
    }
    assert!(lab.frames_lost() > 0, "no frame was lost, so nothing was tested");
    director.stop();
}

/// A link to the servers that carries less than the link to the clients: who sends too much with "don't fragment" is told what fits.
#[test]
fn path_mtu_is_told_to_clients() {
    const LINK_MTU: u16 = 1400;
    let Some(lab) = Lab::up("path_mtu", lab::USUAL) else {
        return;
    };
    for host in ["director", "server1", "server2", "server3"] {
        lab.run(host, &["ip", "link", "set", "inside", "mtu", &LINK_MTU.to_string()]);
    }
    let mut cases = all_cases();
    cases.extend([
        two_arms(FullNat, V6, V4),
        two_arms(FullNat, V4, V6),
        two_arms(Tunnel, V6, V4),
    ]);
    for case in &cases {
        eprintln!("{case:?}");
        let fits = match case.method {
            Nat | DirectRouting => LINK_MTU,
            Tunnel => LINK_MTU - case.servers.header_bytes(),
            FullNat => LINK_MTU - case.servers.header_bytes() + case.client.header_bytes(),
        };
        let director = Director::start(&lab, traffic::services(case));
        let vip = traffic::vip(case);
        // Larger than what fits by UDP's header and a few bytes, smaller than the client's own MTU.
        let payload = (fits - case.client.header_bytes()).to_string();
        let answer = client::probe(&lab, "error", vip, 7000, &["--bytes", &payload, "--dont-fragment"]);
        assert!(answer.starts_with("packet-too-big "), "{answer}");
        assert_eq!(About::parse(&answer).get("info"), fits.to_string());
        client::upload(&lab, vip, 1_000_000);
        client::download(&lab, vip, 1_000_000, &[]);
        director.stop();
    }
}

#[test]
fn jumbo_frames_pass() {
    if kernel::skip_without_multi_buffer("jumbo_frames_pass") {
        return;
    }
    let Some(lab) = Lab::up(
        "jumbo",
        Shape {
            mtu: 9000,
            ..lab::USUAL
        },
    ) else {
        return;
    };
    let cases = all_cases();
    let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
    for case in &cases {
        eprintln!("{case:?}");
        let vip = traffic::vip(case);
        let answer = client::probe(&lab, "error", vip, 7000, &["--bytes", "8900", "--dont-fragment"]);
        assert!(answer.starts_with("answer server="), "{answer}");
        client::download(&lab, vip, 5_000_000, &[]);
        client::upload(&lab, vip, 5_000_000);
    }
    director.stop();
}

#[test]
fn a_tagged_port_carries_every_method() {
    let Some(lab) = Lab::up(
        "vlan",
        Shape {
            vlan: Some(7),
            ..lab::USUAL
        },
    ) else {
        return;
    };
    for case in all_cases() {
        eprintln!("{case:?}");
        let director = Director::start(&lab, traffic::services(&case));
        traffic::ask_everything(&lab, &case);
        director.stop();
    }
}

/// Servers of one service reached in different ways.
#[test]
fn one_service_mixes_methods() {
    let Some(lab) = Lab::up("mixed", lab::USUAL) else {
        return;
    };
    let mixed = FAMILIES.map(|family| Service {
        vip: family.address("VIP_MIXED"),
        servers: vec![
            (family.server(1), Some(Nat)),
            (family.server(2), Some(DirectRouting)),
            (family.server(3), Some(Tunnel)),
        ],
        ..Service::new("tcp", 80, Nat, family, family)
    });
    let director = Director::start(&lab, mixed.to_vec());
    for service in &mixed {
        let counts = client::count_servers(&lab, service.vip, 60);
        assert!(
            counts.len() == 3 && counts.values().all(|count| *count == 20),
            "rr did not take turns: {counts:?}"
        );
    }
    director.stop();
}

/// Client and server families for FullNAT.
const TRANSLATIONS: [(Family, Family); 4] = [(V4, V4), (V6, V6), (V6, V4), (V4, V6)];

#[test]
fn toa_carries_the_clients_address() {
    let Some(lab) = Lab::up("toa", lab::USUAL) else { return };
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let mut service = Service::new("tcp", 80, FullNat, family, servers);
        service.client_address = Some("toa");
        let vip = service.vip;
        let director = Director::start(&lab, vec![service]);
        for _ in 0..6 {
            let (about, own) = client::get_with_own_address(&lab, vip, 80, "/toa");
            assert_eq!(about.get("toa"), own);
        }
        client::upload(&lab, vip, 1_000_000);
        client::download(&lab, vip, 1_000_000, &[]);
        director.stop();
    }
}

#[test]
fn proxy_header_carries_the_clients_address_over_tcp() {
    let Some(lab) = Lab::up("proxy_tcp", lab::USUAL) else {
        return;
    };
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let services = [8081, 2526].map(|port| Service {
            client_address: Some("proxy_v2"),
            ..Service::new("tcp", port, FullNat, family, servers)
        });
        let vip = services[0].vip;
        let director = Director::start(&lab, services.to_vec());
        for _ in 0..6 {
            let (about, own) = client::get_with_own_address(&lab, vip, 8081, "/");
            assert_eq!(about.get("client"), own);
            assert_eq!(about.get("address"), with_port(vip, 8081));
            assert_eq!(about.host("peer"), servers.address("POOL"));
        }
        eprintln!("the server speaks first");
        let greeting = client::probe(&lab, "greet", vip, 2526, &[]);
        assert_eq!(About::parse(&greeting).host("client"), family.address("CLIENT"));
        eprintln!("and with lost frames");
        lab.lose_frames();
        let path = format!("http://{}/bytes/1000000", with_port(vip, 8081));
        assert_eq!(client::curl(&lab, &[&path]).len(), 1_000_000);
        lab.run("outside", &["nft", "delete", "table", "bridge", "loss"]);
        director.stop();
    }
}

#[test]
fn proxy_header_carries_the_clients_address_over_udp() {
    let Some(lab) = Lab::up("proxy_udp", lab::USUAL) else {
        return;
    };
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let mut service = Service::new("udp", 7001, FullNat, family, servers);
        service.client_address = Some("proxy_v2");
        let vip = service.vip;
        let director = Director::start(&lab, vec![service]);
        let answers = client::probe(&lab, "udp", vip, 7001, &["--count", "6"]);
        for about in answers.lines().map(About::parse) {
            assert_eq!(about.host("client"), family.address("CLIENT"));
            assert_eq!(about.get("address"), with_port(vip, 7001));
            assert_eq!(about.host("peer"), servers.address("POOL"));
        }
        director.stop();
    }
}

/// As with kernel IPVS, a service without a usable server answers "port unreachable".
#[test]
fn a_closed_service_says_so() {
    let Some(lab) = Lab::up("closed", lab::USUAL) else {
        return;
    };
    let services = FAMILIES.iter().flat_map(|family| {
        ["tcp", "udp"].map(|protocol| Service {
            servers: Vec::new(),
            ..Service::new(
                protocol,
                if protocol == "tcp" { 80 } else { 7000 },
                Nat,
                *family,
                *family,
            )
        })
    });
    let director = Director::start(&lab, services.collect());
    for family in FAMILIES {
        let vip = Nat.vip(family);
        let answer = client::probe(&lab, "error", vip, 7000, &[]);
        assert!(answer.starts_with("port-unreachable "), "{answer}");
        let refused = lab.try_run(
            "client",
            &[
                "curl",
                "--silent",
                "--globoff",
                &format!("http://{}/", with_port(vip, 80)),
            ],
        );
        assert_eq!(
            refused.status.code(),
            Some(7),
            "curl was not refused: {}",
            lab::describe(&refused)
        );
    }
    director.stop();
}

/// What is not balanced belongs to the kernel: connections to the director itself, and what it routes.
#[test]
fn other_traffic_reaches_the_kernel() {
    for arms in [1, 2] {
        let Some(lab) = Lab::up("other_traffic", Shape { arms, ..lab::USUAL }) else {
            return;
        };
        let director = Director::start(&lab, traffic::services(&two_arms(Nat, V4, V4)));
        let offloads = lab.run("client", &["ethtool", "-k", "outside"]);
        assert!(
            offloads.contains("tx-checksumming: on"),
            "the lab is meant to have the usual offloads: {offloads}"
        );
        for family in FAMILIES {
            let own = family.address("DIRECTOR_OUTSIDE");
            let mut listener = lab.command("director", &["iperf3", "--server", "--one-off", "--port", "2222"]);
            let mut listener = listener
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("iperf3 can be started");
            wait_for_listener(&lab, 2222);
            lab.run(
                "client",
                &[
                    "iperf3",
                    "--client",
                    own,
                    "--port",
                    "2222",
                    "--bytes",
                    "5M",
                    "--connect-timeout",
                    "10000",
                ],
            );
            assert!(listener.wait().expect("iperf3 can be waited for").success());
            // The client reaches a server through the director's kernel, and the server the client.
            let answer = client::get(&lab, family.server(2), 80, "/");
            let about = About::parse(&answer);
            assert_eq!(
                (about.get("server"), about.host("client")),
                ("server2", family.address("CLIENT"))
            );
            let pong = lab.run("server1", &["ping", "-c", "2", "-W", "10", family.address("CLIENT")]);
            assert!(pong.contains(" 2 received"), "{pong}");
        }
        assert_eq!(
            About::parse(&client::get(&lab, address("VIP_NAT4"), 80, "/")).host("client"),
            address("CLIENT4")
        );
        director.stop();
    }
}

fn wait_for_listener(lab: &Lab, port: u16) {
    let filter = format!("sport = :{port}");
    for _ in 0..600 {
        if !lab.run("director", &["ss", "-H", "-l", "-t", "-n", &filter]).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("nothing listens on port {port}");
}
