//! The director's ports: how they are opened, tags, and what on them is the kernel's.

use crate::cases::{FAMILIES, all_cases, two_arms};
use crate::client::{self, About};
use crate::config::{
    Backend, Config,
    Family::{V4, V6},
    Method::{DirectRouting, FullNat, Nat, Tunnel},
    Service,
};
use crate::director::Director;
use crate::lab::{self, Lab, Shape, address};
use crate::traffic;

const TWO_QUEUES: Shape = Shape {
    queues: 2,
    ..lab::USUAL
};

/// Asks everything of a director with one worker, and hands over its log.
fn ask_one_worker(lab: &Lab, check_log: impl Fn(&str)) {
    for case in [two_arms(Nat, V4, V4), two_arms(FullNat, V6, V6)] {
        eprintln!("{case:?}");
        let config = Config {
            workers: 1,
            ..Config::usual(lab, traffic::services(&case))
        };
        let director = Director::start_with(lab, config);
        check_log(&director.log());
        traffic::ask_everything(lab, &case);
        director.stop();
    }
}

/// A port whose driver takes no XDP program: "auto" runs it in generic mode and says so, and everything works.
pub fn generic_mode_is_the_fall_back() {
    let Some(lab) = Lab::up("generic", TWO_QUEUES) else {
        return;
    };
    // Native XDP is refused on a veth that receives on fewer queues than its peer sends on.
    for port in ["outside", "inside"] {
        lab.run("director", &["ethtool", "-L", port, "rx", "1"]);
        // What the director advises then: a NIC never hands over segments longer than the MTU, but another end of a cable like this does.
        lab.run(port, &["ethtool", "-K", "director", "tso", "off", "gso", "off"]);
    }
    ask_one_worker(&lab, |log| {
        assert!(log.contains("generic mode, which is much slower"), "{log}")
    });
}

pub fn one_worker_serves_two_queues() {
    let Some(lab) = Lab::up("two_queues", TWO_QUEUES) else {
        return;
    };
    ask_one_worker(&lab, |_| ());
}

/// Every method is asked for everything; they are all configured at once.
pub fn a_tagged_port_carries_every_method(backend: Backend) {
    let shape = Shape {
        vlan: Some(7),
        ..Shape::usual(backend)
    };
    let Some(lab) = Lab::up("vlan", shape) else { return };
    let director = Director::start(&lab, all_cases().iter().flat_map(traffic::services).collect());
    for case in all_cases() {
        eprintln!("{case:?}");
        traffic::ask_everything(&lab, &case);
    }
    director.stop();
}

/// Servers of one service reached in different ways.
pub fn one_service_mixes_methods(backend: Backend) {
    let Some(lab) = Lab::up("mixed", Shape::usual(backend)) else {
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

/// What is not balanced belongs to the kernel: connections to the director itself, and what it routes.
pub fn other_traffic_reaches_the_kernel(backend: Backend) {
    for arms in [1, 2] {
        let Some(lab) = Lab::up(
            "other_traffic",
            Shape {
                arms,
                ..Shape::usual(backend)
            },
        ) else {
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
