//! The neighbour machinery against a real kernel, in namespaces of its own. Needs root; is skipped with a reason otherwise.

mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lab::{Follower, Lab};
use ulvs_control::neighbor::{
    Change, Destination, KernelView, NEIGHBOUR_PROTOCOL, Neighbour, NeighbourState, Port, PortInterface, Route,
    RouteResult, forwarding_facts, reconcile, release_all, resolve_once,
};
use ulvs_dataplane::address::Address;

const SERVERS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

fn ours(view: &KernelView) -> Vec<Neighbour> {
    view.neighbours()
        .filter(|have| have.protocol == NEIGHBOUR_PROTOCOL)
        .copied()
        .collect()
}

fn has_mac(view: &KernelView, server: &str, mac: [u8; 6]) -> bool {
    let found = view.neighbours().find(|have| have.address == address(server));
    found.and_then(Neighbour::usable_mac) == Some(mac)
}

fn routes_to(view: &KernelView, prefix: &str) -> Vec<Route> {
    view.routes()
        .filter(|route| route.prefix == address(prefix))
        .cloned()
        .collect()
}

#[test]
fn the_dump_shows_what_is_there_and_events_follow() {
    let Some(lab) = Lab::new() else { return };
    lab.director("route add 10.1.0.0/16 via 192.0.2.10 metric 5 src 192.0.2.1 mtu 1400");
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        let eth0 = follower.view.link_named("eth0").expect("eth0").clone();
        assert!(
            eth0.up && eth0.resolves_neighbours && eth0.mtu == 1500 && eth0.mac.is_some(),
            "{eth0:?}"
        );
        assert!(!follower.view.link_named("lo").expect("lo").resolves_neighbours);
        for own in ["192.0.2.1", "2001:db8::1"] {
            assert!(
                follower
                    .view
                    .addresses()
                    .iter()
                    .any(|have| have.address == address(own)),
                "{own}"
            );
            assert!(
                matches!(follower.view.route(address(own)), RouteResult::Local { .. }),
                "{own}"
            );
        }
        let route = &routes_to(&follower.view, "10.1.0.0")[0];
        assert_eq!(
            (route.metric, route.mtu, route.preferred_source),
            (5, Some(1400), Some(address("192.0.2.1")))
        );

        lab.director("route replace 10.1.0.0/16 via 192.0.2.11 metric 5");
        let replaced = |view: &KernelView| {
            let routes = routes_to(view, "10.1.0.0");
            routes.len() == 1 && routes[0].hops[0].gateway == Some(address("192.0.2.11"))
        };
        follower.until("the replaced route", replaced).await;
        lab.director("link set eth0 mtu 1480");
        follower
            .until("the new MTU", |view| {
                view.link_named("eth0").is_some_and(|link| link.mtu == 1480)
            })
            .await;
        // The kernel tells nobody of the IPv4 routes that it drops here.
        lab.director("link set eth0 down");
        follower
            .until("the route's silent end", |view| routes_to(view, "10.1.0.0").is_empty())
            .await;
        lab.servers("link delete srv0");
        follower
            .until("the link's end", |view| view.link_named("eth0").is_none())
            .await;
    });
}

#[test]
fn neighbours_are_resolved_kept_fresh_and_left_as_found() {
    let Some(lab) = Lab::new() else { return };
    lab.servers("link set srv0 address 02:00:00:00:00:0a");
    // Else a kernel waits half a minute before it doubts an entry.
    for table in ["arp_cache", "ndisc_cache"] {
        let quick = "base_reachable 1000 delay_probe 200 retrans 100 ucast_probes 1 mcast_probes 2";
        lab.director(&format!("ntable change name {table} dev eth0 {quick}"));
    }
    lab.director("neighbour add 192.0.2.77 dev eth0 lladdr 02:00:00:00:00:77 nud permanent");
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        let (eth0, interfaces) = (follower.eth0(), follower.interfaces());
        let mut wanted: BTreeSet<_> = SERVERS.map(|server| (eth0, address(server))).into();
        wanted.insert((eth0, address("192.0.2.77")));
        wanted.insert((eth0, address("192.0.2.99")));

        let refused = reconcile(&follower.view, &interfaces, &wanted).await.expect("a socket");
        assert!(refused.is_empty(), "{refused:?}");
        for server in SERVERS {
            follower
                .until(server, |view| has_mac(view, server, [2, 0, 0, 0, 0, 10]))
                .await;
        }
        let failed = |view: &KernelView| {
            ours(view)
                .iter()
                .any(|have| have.address == address("192.0.2.99") && have.state == NeighbourState::Failed)
        };
        follower.until("the absent server's failure", failed).await;
        let managed = ours(&follower.view);
        assert_eq!(managed.len(), 3, "{managed:?}");
        if !managed.iter().all(|have| have.managed) {
            println!("skipped in part: this kernel does not manage neighbours (needs Linux 5.16)");
            return;
        }
        assert!(
            has_mac(&follower.view, "192.0.2.77", [2, 0, 0, 0, 0, 0x77]),
            "the static entry is as it was"
        );

        // A server that changes its MAC without a word is found again, and so is one that was absent.
        lab.servers("link set srv0 address 02:00:00:00:00:0b");
        lab.servers("address add 192.0.2.99/24 dev srv0");
        for server in [SERVERS[0], SERVERS[1], "192.0.2.99"] {
            follower
                .until(server, |view| has_mac(view, server, [2, 0, 0, 0, 0, 11]))
                .await;
        }

        // The director is killed and comes back with fewer servers: what its predecessor left is taken over or removed.
        drop(follower);
        let mut follower = Follower::open().await;
        let fewer = BTreeSet::from([(eth0, address(SERVERS[1]))]);
        assert!(
            reconcile(&follower.view, &interfaces, &fewer)
                .await
                .expect("a socket")
                .is_empty()
        );
        follower
            .until("the unwanted entries' end", |view| ours(view).len() == 1)
            .await;
        assert_eq!(ours(&follower.view)[0].address, address(SERVERS[1]));

        assert!(release_all(&interfaces).await.expect("a socket").is_empty());
        follower.until("all entries' end", |view| ours(view).is_empty()).await;
        assert!(
            release_all(&interfaces).await.expect("a socket").is_empty(),
            "twice does no harm"
        );
    });
    assert!(lab.director("neighbour show 192.0.2.77").contains("PERMANENT"));
    assert_eq!(
        lab.director(&format!("neighbour show protocol {NEIGHBOUR_PROTOCOL}")),
        ""
    );
}

#[test]
fn a_neighbour_can_be_resolved_once_without_being_kept() {
    let Some(lab) = Lab::new() else { return };
    lab.servers("link set srv0 address 02:00:00:00:00:0a");
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        for server in SERVERS {
            let refused = resolve_once(&follower.view, follower.eth0(), address(server))
                .await
                .expect("a socket");
            assert!(refused.is_empty(), "{refused:?}");
            follower
                .until(server, |view| has_mac(view, server, [2, 0, 0, 0, 0, 10]))
                .await;
        }
        assert!(ours(&follower.view).is_empty());
    });
}

#[test]
fn a_link_local_gateway_carries_a_server_behind_it() {
    let Some(lab) = Lab::new() else { return };
    lab.servers("address add fe80::1/64 dev srv0 nodad");
    lab.servers("link set srv0 address 02:00:00:00:00:0a");
    lab.director("route add default via fe80::1 dev eth0");
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        let eth0 = follower.eth0();
        let port = Port {
            index: 0,
            mac: [2; 6],
            interfaces: vec![PortInterface {
                ifindex: eth0,
                vlan: None,
            }],
        };
        let server = address("2001:db8:99::1");
        let facts = |view: &KernelView| forwarding_facts(view, std::slice::from_ref(&port), &[server]);
        let next_hop = |view: &KernelView| {
            let facts = facts(view);
            match facts.destinations[&server] {
                Destination::NextHop(number) => facts.next_hops[number],
                other => panic!("{other:?}"),
            }
        };
        let before = next_hop(&follower.view);
        assert_eq!((before.neighbour, before.destination_mac), (address("fe80::1"), None));
        assert_eq!(before.source_v6, Some(address("2001:db8::1")));
        let wanted = facts(&follower.view).to_resolve;
        assert!(
            reconcile(&follower.view, &follower.interfaces(), &wanted)
                .await
                .expect("a socket")
                .is_empty()
        );
        let resolved = |view: &KernelView| next_hop(view).destination_mac == Some([2, 0, 0, 0, 0, 10]);
        follower.until("the gateway's MAC", resolved).await;
    });
}

#[test]
fn an_overrun_socket_is_healed_by_a_new_dump() {
    const ROUTES: usize = 8000;
    let Some(lab) = Lab::new() else { return };
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        // Nobody reads meanwhile, so the kernel runs out of room for its news.
        let add = |n: usize| format!("route add 10.{}.{}.0/24 via 192.0.2.10\n", n / 256, n % 256);
        lab.director_batch(&(0..ROUTES).map(add).collect::<String>());
        let batch = follower.batch().await;
        assert!(
            batch.iter().any(|change| matches!(change, Change::AllLinks(_))),
            "it did not overrun"
        );
        let there = |view: &KernelView| view.routes().filter(|route| route.prefix.octets()[12] == 10).count();
        follower.until("all routes", |view| there(view) == ROUTES).await;
    });
}

/// What each step leaves in the view must be what a fresh dump shows, and must lead where the kernel says.
#[test]
fn the_view_follows_the_kernel_through_every_kind_of_change() {
    const STEPS: [&str; 24] = [
        "route add 10.1.0.0/16 via 192.0.2.10",
        "route append 10.1.0.0/16 via 192.0.2.11",
        "route prepend 10.1.0.0/16 via 192.0.2.12",
        "route replace 10.1.0.0/16 via 192.0.2.13",
        "route delete 10.1.0.0/16 via 192.0.2.13",
        "route add 10.1.0.0/16 via 192.0.2.14 metric 50",
        "route add 10.1.2.0/24 nexthop via 192.0.2.10 weight 3 nexthop via 192.0.2.11",
        "route add blackhole 10.2.0.0/16",
        "route add unreachable 10.3.0.0/16 metric 9",
        "route add prohibit 2001:db8:3::/48",
        "route add default via 192.0.2.10 mtu 1300",
        "route add throw 10.4.0.0/16",
        "route add default via 192.0.2.12 table 253",
        "route add 10.5.0.0/16 via inet6 2001:db8::10",
        "route add 2001:db8:1::/48 via 2001:db8::10",
        "route append 2001:db8:1::/48 via 2001:db8::11",
        "route append 2001:db8:1::/48 via 2001:db8::12",
        "route delete 2001:db8:1::/48 via 2001:db8::11",
        "route replace 2001:db8:1::/48 via 2001:db8::13",
        "route add default via fe80::1 dev eth0",
        "address add 198.51.100.1/24 dev eth0",
        "address delete 198.51.100.1/24 dev eth0",
        "link set eth0 down",
        "link set eth0 up",
    ];
    const PROBES: [&str; 9] = [
        "10.1.9.9",
        "10.2.0.1",
        "10.3.0.1",
        "10.4.0.1",
        "10.5.0.1",
        "203.0.113.9",
        "198.51.100.9",
        "2001:db8:1::9",
        "2001:db8:99::9",
    ];
    let Some(lab) = Lab::new() else { return };
    lab.run_inside(async || {
        let mut follower = Follower::open().await;
        for step in STEPS {
            lab.director(step);
            let routes = |view: &KernelView| view.routes().cloned().collect::<Vec<_>>();
            // A link that comes up gets its IPv6 routes by and by: look until both agree.
            loop {
                let fresh = Follower::open().await;
                if routes(&fresh.view) == routes(&follower.view) && probes_agree(&lab, &follower.view, &PROBES, step) {
                    break;
                }
                let (kernel, ours) = (routes(&fresh.view), routes(&follower.view));
                let only_ours: Vec<_> = ours.iter().filter(|route| !kernel.contains(route)).collect();
                let only_kernel: Vec<_> = kernel.iter().filter(|route| !ours.contains(route)).collect();
                println!("after `{step}` the view still has {only_ours:?} and still lacks {only_kernel:?}");
                follower.batch().await;
            }
        }
    });
}

/// Whether `ip route get` and the view lead the same way, or both nowhere.
fn probes_agree(lab: &Lab, view: &KernelView, probes: &[&str], step: &str) -> bool {
    probes.iter().all(|probe| {
        let kernel = kernel_way(lab, probe);
        let ours = match view.route(address(probe)) {
            RouteResult::Forward(forward) => Some((forward.next_hop, forward.source)),
            _ => None,
        };
        let agree = kernel == ours || are_siblings(view, kernel, ours);
        if !agree {
            println!("after `{step}`, {probe}: the kernel says {kernel:?}, the view {ours:?}");
        }
        agree
    })
}

type Way = Option<(Address, Option<Address>)>;

/// Whether both are hops of one multipath route, among which the kernel chooses by a hash of its own.
fn are_siblings(view: &KernelView, one: Way, other: Way) -> bool {
    let has =
        |route: &Route, way: Way| way.is_some_and(|(next, _)| route.hops.iter().any(|hop| hop.gateway == Some(next)));
    view.routes().any(|route| has(route, one) && has(route, other))
}

fn kernel_way(lab: &Lab, probe: &str) -> Way {
    let arguments = ["-n", &lab.director, "-j", "route", "get", probe];
    let output = std::process::Command::new("ip").args(arguments).output().expect("ip");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let answer = answer.get(0)?;
    if answer.get("type").is_some() {
        return None;
    }
    let field = |value: Option<&serde_json::Value>| value.and_then(|text| text.as_str()).map(address);
    let via = answer.get("via").map(|via| via.get("host"));
    let gateway = field(via.unwrap_or(answer.get("gateway")));
    Some((gateway.unwrap_or(address(probe)), field(answer.get("prefsrc"))))
}
