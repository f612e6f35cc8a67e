//! Who is where: announcements, next hops that come late, move or lie behind a gateway, routes that change.

use std::collections::HashSet;
use std::process::Stdio;

use crate::client::{self, About};
use crate::config::{
    Backend, Family,
    Method::{FullNat, Nat},
    Service, bracket,
};
use crate::director::Director;
use crate::lab::{Lab, Shape};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Nobody's.
const FORMER_MAC: &str = "02:00:00:00:00:99";

/// HTTP by NAT in both families, with these servers.
fn web(servers: impl Fn(Family) -> Vec<&'static str>) -> Vec<Service> {
    let service = |family: Family| Service {
        servers: servers(family).into_iter().map(|server| (server, None)).collect(),
        ..Service::new("tcp", 80, Nat, family, family)
    };
    FAMILIES.map(service).to_vec()
}

fn all_servers(family: Family) -> Vec<&'static str> {
    (1..=3).map(|number| family.server(number)).collect()
}

/// Which server answers the next connection.
fn server_of_next(lab: &Lab, family: Family) -> String {
    let answer = client::get(lab, Nat.vip(family), 80, "/");
    About::parse(&answer).get("server").to_string()
}

/// Three connections in turn meet all three servers.
fn all_servers_answer(lab: &Lab, family: Family) {
    let answers: HashSet<_> = (0..3).map(|_| server_of_next(lab, family)).collect();
    assert_eq!(answers.len(), 3, "rr did not take turns: {answers:?}");
}

/// Asks again until it is so; a limit detects that it never is.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("not within 30 seconds: {what}");
}

/// Who still has the MAC of the director before this one learns the new one unasked: gratuitous ARP and unsolicited neighbour
/// advertisements at the start, for virtual and for local addresses.
pub fn addresses_are_announced_at_the_start(backend: Backend) {
    let Some(lab) = Lab::up("announce", Shape::usual(backend)) else {
        return;
    };
    let mut known = Vec::new();
    let mut services = Vec::new();
    for family in FAMILIES {
        known.push(("client", "outside", FullNat.vip(family)));
        known.push(("server1", "inside", family.address("POOL")));
        services.push(Service::new("tcp", 80, FullNat, family, family));
    }
    for (host, port, own) in &known {
        let entry = [
            "ip",
            "neighbour",
            "add",
            own,
            "lladdr",
            FORMER_MAC,
            "dev",
            port,
            "nud",
            "stale",
        ];
        lab.run(host, &entry);
    }
    let director = Director::start(&lab, services);
    for (host, port, own) in &known {
        let path = format!("/sys/class/net/{port}/address");
        let mac = lab.run("director", &["cat", &path]);
        eventually(&format!("{host} learns of {own}"), || {
            lab.run(host, &["ip", "neighbour", "show", own]).contains(mac.trim())
        });
    }
    director.stop();
}

/// A server whose MAC is not known when the first packet for it comes, because it is not there yet.
pub fn a_server_that_comes_late_is_found(backend: Backend) {
    let Some(lab) = Lab::up("late", Shape::usual(backend)) else {
        return;
    };
    // Its cable is pulled at the switch, so that it keeps its addresses and routes.
    lab.run("inside", &["ip", "link", "set", "server1", "down"]);
    let director = Director::start(&lab, web(|family| vec![family.server(1)]));
    let waiting = FAMILIES.map(|family| {
        let url = format!("http://{}/", bracket(Nat.vip(family)));
        let mut curl = lab.command("client", &["curl", "--silent", "--globoff", "--max-time", "60", &url]);
        curl.stdout(Stdio::piped()).spawn().expect("curl can be started")
    });
    eventually("both SYNs wait for their server", || {
        director.counter("neighbour_requests") >= 2
    });
    lab.run("inside", &["ip", "link", "set", "server1", "up"]);
    for curl in waiting {
        let output = curl.wait_with_output().expect("curl can be waited for");
        let answer = String::from_utf8_lossy(&output.stdout);
        assert_eq!(About::parse(&answer).get("server"), "server1");
    }
    director.stop();
}

/// The kernel forgets its neighbours while the director runs.
pub fn flushed_neighbours_are_found_again(backend: Backend) {
    let Some(lab) = Lab::up("flushed", Shape::usual(backend)) else {
        return;
    };
    let director = Director::start(&lab, web(all_servers));
    for family in FAMILIES {
        all_servers_answer(&lab, family);
        for _ in 0..3 {
            lab.run("director", &["ip", "neighbour", "flush", "all"]);
            all_servers_answer(&lab, family);
        }
    }
    director.stop();
}

/// A server's network card is replaced: another MAC, of which the server tells as Linux does with arp_notify and ndisc_notify.
pub fn a_servers_new_mac_is_followed(backend: Backend) {
    let Some(lab) = Lab::up("new_mac", Shape::usual(backend)) else {
        return;
    };
    let director = Director::start(&lab, web(all_servers));
    for family in FAMILIES {
        all_servers_answer(&lab, family);
    }
    let notify = [
        "net.ipv4.conf.inside.arp_notify=1",
        "net.ipv6.conf.inside.ndisc_notify=1",
    ];
    lab.run("server2", &[&["sysctl", "-q", "-w"], &notify[..]].concat());
    lab.run(
        "server2",
        &["ip", "link", "set", "inside", "address", "02:00:00:00:00:22"],
    );
    for family in FAMILIES {
        all_servers_answer(&lab, family);
        all_servers_answer(&lab, family);
    }
    director.stop();
}

/// An address that servers 1 and 3 have beside their own, outside of the director's networks.
fn distant(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("10.99.4.1", "10.99.4.1/32"),
        Family::V6 => ("fd99:4::1", "fd99:4::1/128"),
    }
}

/// A server behind a gateway; then the route is given to another one, while the director runs.
pub fn routes_to_servers_are_followed(backend: Backend) {
    let Some(lab) = Lab::up("routes", Shape::usual(backend)) else {
        return;
    };
    for family in FAMILIES {
        let (_, prefix) = distant(family);
        for server in ["server1", "server3"] {
            lab.run(server, &["ip", "address", "add", prefix, "dev", "lo"]);
        }
        lab.run("router", &["ip", "route", "add", prefix, "via", family.server(1)]);
        let gateway = family.address("ROUTER_INSIDE");
        lab.run("director", &["ip", "route", "add", prefix, "via", gateway]);
    }
    let director = Director::start(&lab, web(|family| vec![distant(family).0]));
    for family in FAMILIES {
        let (address, prefix) = distant(family);
        for _ in 0..3 {
            let answer = client::get(&lab, Nat.vip(family), 80, "/");
            let about = About::parse(&answer);
            assert_eq!((about.get("server"), about.host("address")), ("server1", address));
        }
        lab.run("director", &["ip", "route", "replace", prefix, "via", family.server(3)]);
        eventually("connections take the new route", || {
            server_of_next(&lab, family) == "server3"
        });
        assert_eq!(server_of_next(&lab, family), "server3");
        // As it was: the director is going to be checked for what it leaves behind.
        let gateway = family.address("ROUTER_INSIDE");
        lab.run("director", &["ip", "route", "replace", prefix, "via", gateway]);
    }
    director.stop();
}

/// A virtual address that the director's kernel has too: services are balanced, everything else of it is the kernel's.
pub fn an_address_can_be_shared_with_the_kernel(backend: Backend) {
    let Some(lab) = Lab::up("shared", Shape::usual(backend)) else {
        return;
    };
    for family in FAMILIES {
        let length = if family == Family::V4 { 32 } else { 128 };
        let own = format!("{}/{length}", Nat.vip(family));
        lab.run("director", &["ip", "address", "add", &own, "dev", "outside"]);
    }
    let director = Director::start(&lab, web(all_servers));
    for family in FAMILIES {
        let vip = Nat.vip(family);
        all_servers_answer(&lab, family);
        let pong = lab.run("client", &["ping", "-c", "2", "-W", "10", vip]);
        assert!(pong.contains(" 2 received"), "{pong}");
        crate::ports::reach_kernel(&lab, vip);
        all_servers_answer(&lab, family);
    }
    director.stop();
}
