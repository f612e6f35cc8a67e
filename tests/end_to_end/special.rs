//! What needs a lab or a configuration of its own: lost frames, MTUs, tags, the client's address behind FullNAT, closed services.

use crate::Case;
use crate::client::{self, About};
use crate::config::{
    Config,
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

/// [`all_cases`], and those that change between the families.
fn all_cases_and_translations() -> Vec<Case> {
    let mut cases = all_cases();
    for method in [Tunnel, FullNat] {
        cases.extend([two_arms(method, V6, V4), two_arms(method, V4, V6)]);
    }
    cases
}

/// All of them, apart: a VIP's port has either servers of its own family or of the other one.
fn in_two_configurations() -> [Vec<Case>; 2] {
    let all = all_cases_and_translations().into_iter();
    let (same, other) = all.partition(|case| case.client == case.servers);
    [same, other]
}

#[test]
fn transfers_survive_lost_frames() {
    survive_lost_frames("lost_frames", 1);
}

#[test]
fn transfers_survive_lost_frames_with_two_workers() {
    survive_lost_frames("lost_frames_2", 2);
}

fn survive_lost_frames(test: &str, queues: u8) {
    let shape = Shape { queues, ..lab::USUAL };
    let Some(lab) = Lab::up(test, shape) else { return };
    lab.lose_frames();
    for cases in in_two_configurations() {
        let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
        let lost_before = lab.frames_lost();
        for case in &cases {
            eprintln!("{case:?}");
            client::download(&lab, traffic::vip(case), 1_000_000, &[]);
            client::upload(&lab, traffic::vip(case), 1_000_000);
        }
        assert!(
            lab.frames_lost() > lost_before,
            "no frame was lost, so nothing was tested"
        );
        if queues > 1 {
            let handed_over = director.counter("redirected");
            assert!(
                handed_over > 0,
                "no frame came to a worker that does not own its connection"
            );
        }
        director.stop();
    }
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
    lab.watch_for_frames_longer_than(LINK_MTU);
    for case in &all_cases_and_translations() {
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
        let told = director.counter("reply_too_big");
        client::upload(&lab, vip, 1_000_000);
        client::download(&lab, vip, 1_000_000, &[]);
        // FullNAT sees both directions and lowers the segment size where it has to, so nobody has to be told afterwards.
        if case.method == FullNat {
            assert_eq!(director.counter("reply_too_big"), told, "a TCP segment was too big");
        }
        director.stop();
        assert_eq!(
            lab.long_frames(),
            0,
            "the director sent frames that the link does not carry"
        );
    }
}

/// TOA and PROXY headers make packets longer: with the smaller segment size they still fit.
#[test]
fn what_carries_the_clients_address_fits_the_path() {
    const LINK_MTU: u16 = 1400;
    let Some(lab) = Lab::up("fits", lab::USUAL) else { return };
    for host in ["director", "server1", "server2", "server3"] {
        lab.run(host, &["ip", "link", "set", "inside", "mtu", &LINK_MTU.to_string()]);
    }
    lab.watch_for_frames_longer_than(LINK_MTU);
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let services = [("toa", 80), ("proxy_v2", 8081)].map(|(client_address, port)| Service {
            client_address: Some(client_address),
            ..Service::new("tcp", port, FullNat, family, servers)
        });
        let vip = services[0].vip;
        let director = Director::start(&lab, services.to_vec());
        client::upload(&lab, vip, 1_000_000);
        client::upload_to(&lab, vip, 8081, 1_000_000);
        assert!(
            director.counter("mss_clamped") > 0,
            "no answer announced smaller segments"
        );
        assert_eq!(director.counter("reply_too_big"), 0, "a TCP segment was too big");
        director.stop();
        assert_eq!(
            lab.long_frames(),
            0,
            "the director sent frames that the link does not carry"
        );
    }
}

/// A link to the clients that carries less than the servers believe: they are told of smaller segments when FullNAT passes the SYN on.
#[test]
fn segments_fit_the_way_to_the_client() {
    const LINK_MTU: u16 = 1400;
    let Some(lab) = Lab::up("fits_client", lab::USUAL) else {
        return;
    };
    lab.run(
        "director",
        &["ip", "link", "set", "outside", "mtu", &LINK_MTU.to_string()],
    );
    lab.watch_for_frames_longer_than(LINK_MTU);
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let case = two_arms(FullNat, family, servers);
        let director = Director::start(&lab, traffic::services(&case));
        client::download(&lab, traffic::vip(&case), 1_000_000, &[]);
        assert!(director.counter("mss_clamped") > 0, "no SYN announced smaller segments");
        assert_eq!(director.counter("reply_too_big"), 0, "a TCP segment was too big");
        director.stop();
        assert_eq!(
            lab.long_frames(),
            0,
            "the director sent frames that the link does not carry"
        );
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
    for cases in in_two_configurations() {
        let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
        for case in &cases {
            eprintln!("{case:?}");
            let vip = traffic::vip(case);
            let answer = client::probe(&lab, "error", vip, 7000, &["--bytes", "8800", "--dont-fragment"]);
            assert!(answer.starts_with("answer server="), "{answer}");
            client::download(&lab, vip, 5_000_000, &[]);
            client::upload(&lab, vip, 5_000_000);
        }
        director.stop();
    }
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

/// A server has nothing on the port: its "port unreachable" reaches the client, in the name of the VIP.
#[test]
fn a_servers_closed_port_is_told_to_the_client() {
    const CLOSED: u16 = 7999;
    let Some(lab) = Lab::up("closed_port", lab::USUAL) else {
        return;
    };
    for case in &all_cases_and_translations() {
        eprintln!("{case:?}");
        let service = Service::new("udp", CLOSED, case.method, case.client, case.servers);
        let director = Director::start(&lab, vec![service]);
        let vip = traffic::vip(case);
        let answer = client::probe(&lab, "error", vip, CLOSED, &[]);
        assert!(answer.starts_with("port-unreachable "), "{answer}");
        assert_eq!(About::parse(&answer).get("from"), vip);
        director.stop();
    }
}

/// A port whose driver takes no XDP program: "auto" runs it in generic mode and says so, and everything works.
#[test]
fn generic_mode_is_the_fall_back() {
    let Some(lab) = Lab::up(
        "generic",
        Shape {
            queues: 2,
            ..lab::USUAL
        },
    ) else {
        return;
    };
    // Native XDP is refused on a veth that receives on fewer queues than its peer sends on.
    for port in ["outside", "inside"] {
        lab.run("director", &["ethtool", "-L", port, "rx", "1"]);
        // What the director advises then: a NIC never hands over segments longer than the MTU, but another end of a cable like this does.
        lab.run(port, &["ethtool", "-K", "director", "tso", "off", "gso", "off"]);
    }
    for case in [two_arms(Nat, V4, V4), two_arms(FullNat, V6, V6)] {
        eprintln!("{case:?}");
        let config = Config {
            workers: 1,
            ..Config::usual(&lab, traffic::services(&case))
        };
        let director = Director::start_with(&lab, config);
        assert!(
            director.log().contains("generic mode, which is much slower"),
            "{}",
            director.log()
        );
        traffic::ask_everything(&lab, &case);
        director.stop();
    }
}

#[test]
fn one_worker_serves_two_queues() {
    let Some(lab) = Lab::up(
        "two_queues",
        Shape {
            queues: 2,
            ..lab::USUAL
        },
    ) else {
        return;
    };
    for case in [two_arms(Nat, V4, V4), two_arms(FullNat, V6, V6)] {
        eprintln!("{case:?}");
        let config = Config {
            workers: 1,
            ..Config::usual(&lab, traffic::services(&case))
        };
        let director = Director::start_with(&lab, config);
        traffic::ask_everything(&lab, &case);
        director.stop();
    }
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
            reach_kernel(&lab, own);
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

/// The client talks to a program on the director itself, at one of its addresses.
pub fn reach_kernel(lab: &Lab, address: &str) {
    let mut listener = lab.command("director", &["iperf3", "--server", "--one-off", "--port", "2222"]);
    let mut listener = listener
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("iperf3 can be started");
    wait_for_listener(lab, 2222);
    let client = [
        "iperf3",
        "--connect-timeout",
        "10000",
        "--port",
        "2222",
        "--bytes",
        "5M",
    ];
    lab.run("client", &[&client[..], &["--client", address]].concat());
    assert!(listener.wait().expect("iperf3 can be waited for").success());
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
