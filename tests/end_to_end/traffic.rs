//! What is asked of every forwarding method, family, number of arms and of workers.

use std::collections::HashSet;

use crate::Case;
use crate::client::{self, About};
use crate::config::{Backend, Family, Method, Service, with_port};
use crate::director::Director;
use crate::lab::{Lab, Shape, address};

/// One thing that is asked. The name is printed when it fails.
type Check = (&'static str, fn(&Lab, &Case));

/// All of them, the simple ones first.
pub const ALL: [Check; 13] = [
    (
        "a small HTTP request, and what the server sees of the client",
        small_request,
    ),
    ("ping of the VIP", ping),
    ("200 short connections, spread over the servers", short_connections),
    ("a download of 5 MB", |lab, case| {
        client::download(lab, vip(case), 5_000_000, &[])
    }),
    ("an upload of 5 MB", |lab, case| {
        client::upload(lab, vip(case), 5_000_000)
    }),
    ("a TCP service in which the server speaks first", server_speaks_first),
    ("DNS", dns),
    ("UDP echo", |lab, case| udp_echo(lab, case, 64, 20)),
    ("UDP echo of 4,000 bytes, in fragments both ways", |lab, case| {
        udp_echo(lab, case, 4000, 5)
    }),
    ("a probe with TTL 1, as traceroute sends it", ttl_of_one),
    ("iperf3 to the server", |lab, case| iperf3(lab, case, &[])),
    ("iperf3 from the server", |lab, case| iperf3(lab, case, &["--reverse"])),
    ("a client beyond a small path MTU", far_client),
];

/// Runs one row of the table.
pub fn run(test: &str, case: &Case, backend: Backend) {
    let shape = Shape {
        arms: case.arms,
        queues: case.workers,
        ..Shape::usual(backend)
    };
    let Some(lab) = Lab::up(test, shape) else { return };
    let director = Director::start(&lab, services(case));
    ask_everything(&lab, case);
    director.stop();
}

/// All checks, on a director that runs.
pub fn ask_everything(lab: &Lab, case: &Case) {
    for (name, check) in ALL {
        eprintln!("{name}");
        check(lab, case);
    }
}

/// The services of a case: one per port that the lab's servers listen on.
pub fn services(case: &Case) -> Vec<Service> {
    let service = |protocol, port| Service::new(protocol, port, case.method, case.client, case.servers);
    let mut iperf3 = service("tcp", 5201);
    // iperf3 has two connections, which have to meet the same server.
    iperf3.servers.truncate(1);
    vec![
        service("tcp", 80),
        service("tcp", 2525),
        iperf3,
        service("udp", 53),
        service("udp", 7000),
    ]
}

/// The VIP of a case.
pub fn vip(case: &Case) -> &'static str {
    case.method.vip(case.client)
}

/// The address that a server sees as the client's.
pub fn client_as_seen(case: &Case) -> &'static str {
    match case.method {
        Method::FullNat => case.servers.address("POOL"),
        _ => case.client.address("CLIENT"),
    }
}

/// The address and port under which a server answers: its own where the director rewrites it, otherwise the VIP.
fn check_address(case: &Case, about: &About, port: u16) {
    let host = about.host("address");
    match case.method {
        Method::DirectRouting | Method::Tunnel => assert_eq!(host, vip(case)),
        Method::Nat | Method::FullNat => {
            let servers: Vec<_> = (1..=3).map(|number| case.servers.server(number)).collect();
            assert!(servers.contains(&host), "{host} is not the address of a server");
        }
    }
    assert_eq!(about.get("address"), with_port(host, port));
}

fn small_request(lab: &Lab, case: &Case) {
    let (about, own) = client::get_with_own_address(lab, vip(case), 80, "/");
    assert_eq!(about.host("client"), client_as_seen(case));
    if case.method != Method::FullNat {
        assert_eq!(about.get("client"), own, "the client's port changed on the way");
    }
    check_address(case, &about, 80);
}

fn ping(lab: &Lab, case: &Case) {
    let answer = lab.run("client", &["ping", "-c", "3", "-i", "0.2", "-W", "10", vip(case)]);
    assert!(answer.contains(" 3 received"), "{answer}");
}

fn short_connections(lab: &Lab, case: &Case) {
    let counts = client::count_servers(lab, vip(case), 200);
    assert_eq!(counts.values().sum::<u32>(), 200);
    assert_eq!(counts.len(), 3, "a server got nothing: {counts:?}");
    // Each worker takes turns by itself, so that only one worker is exact.
    if case.workers == 1 {
        assert!(
            counts.values().all(|count| (66..=67).contains(count)),
            "rr did not take turns: {counts:?}"
        );
    }
}

fn server_speaks_first(lab: &Lab, case: &Case) {
    let greeting = client::probe(lab, "greet", vip(case), 2525, &[]);
    assert_eq!(About::parse(&greeting).host("client"), client_as_seen(case));
}

fn dns(lab: &Lab, case: &Case) {
    let servers: HashSet<String> = (0..9).map(|_| client::dig(lab, vip(case), "name.example")).collect();
    assert!(
        servers.iter().all(|answer| answer.starts_with("\"server")),
        "{servers:?}"
    );
    if case.workers == 1 {
        assert_eq!(servers.len(), 3, "9 questions did not reach all servers: {servers:?}");
    }
    let long = client::dig(lab, vip(case), "bytes-3000.example");
    assert_eq!(
        long.matches('x').count(),
        3000,
        "the answer in fragments is not whole: {long}"
    );
}

fn udp_echo(lab: &Lab, case: &Case, bytes: u32, count: u32) {
    let (bytes, count) = (bytes.to_string(), count.to_string());
    // In a tunnel a full frame no longer fits: the first attempt may only tell the client so.
    let attempts = if case.method == Method::Tunnel { "3" } else { "1" };
    let more = ["--bytes", &bytes, "--count", &count, "--attempts", attempts];
    let answers = client::probe(lab, "udp", vip(case), 7000, &more);
    for line in answers.lines() {
        let about = About::parse(line);
        assert_eq!(about.host("client"), client_as_seen(case));
        check_address(case, &about, 7000);
    }
}

fn ttl_of_one(lab: &Lab, case: &Case) {
    let answer = client::probe(lab, "error", vip(case), 7000, &["--ttl", "1"]);
    assert!(answer.starts_with("time-exceeded "), "{answer}");
}

fn iperf3(lab: &Lab, case: &Case, direction: &[&str]) {
    let bytes = client::iperf3(lab, vip(case), direction);
    assert!(bytes > 0, "iperf3 transferred nothing");
}

/// Answers to this client cross a router that drops what is larger than its path MTU and says so: the director has to bring that
/// ICMP error to the server.
fn far_client(lab: &Lab, case: &Case) {
    let far = address(match case.client {
        Family::V4 => "FAR_CLIENT4",
        Family::V6 => "FAR_CLIENT6",
    });
    client::download(lab, vip(case), 300_000, &["--interface", far]);
}
