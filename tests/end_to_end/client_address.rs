//! How a server behind FullNAT learns the client's address.

use crate::cases::TRANSLATIONS;
use crate::client::{self, About};
use crate::config::{Backend, Family, Method::FullNat, Service, with_port};
use crate::director::Director;
use crate::lab::{Lab, Shape};

/// For each pair of families: a director with FullNAT services on these ports, and what is asked of its VIP.
fn for_all_translations(
    test: &str,
    backend: Backend,
    client_address: &'static str,
    services: &[(&'static str, u16)],
    ask: impl Fn(&Lab, &str, Family, Family),
) {
    let Some(lab) = Lab::up(test, Shape::usual(backend)) else {
        return;
    };
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let service = |(protocol, port): &(&'static str, u16)| Service {
            client_address: Some(client_address),
            ..Service::new(protocol, *port, FullNat, family, servers)
        };
        let director = Director::start(&lab, services.iter().map(service).collect());
        ask(&lab, FullNat.vip(family), family, servers);
        director.stop();
    }
}

pub fn toa_carries_the_clients_address(backend: Backend) {
    for_all_translations("toa", backend, "toa", &[("tcp", 80)], |lab, vip, _, _| {
        for _ in 0..6 {
            let (about, own) = client::get_with_own_address(lab, vip, 80, "/toa");
            assert_eq!(about.get("toa"), own);
        }
        client::upload(lab, vip, 1_000_000);
        client::download(lab, vip, 1_000_000, &[]);
    });
}

pub fn proxy_header_carries_the_clients_address(backend: Backend) {
    let services = [("tcp", 8081), ("tcp", 2526), ("udp", 7001)];
    for_all_translations("proxy", backend, "proxy_v2", &services, |lab, vip, family, servers| {
        for _ in 0..6 {
            let (about, own) = client::get_with_own_address(lab, vip, 8081, "/");
            assert_eq!(about.get("client"), own);
            assert_eq!(about.get("address"), with_port(vip, 8081));
            assert_eq!(about.host("peer"), servers.address("POOL"));
        }
        eprintln!("the server speaks first");
        let greeting = client::probe(lab, "greet", vip, 2526, &[]);
        assert_eq!(About::parse(&greeting).host("client"), family.address("CLIENT"));
        eprintln!("in front of datagrams");
        let answers = client::probe(lab, "udp", vip, 7001, &["--count", "6"]);
        for about in answers.lines().map(About::parse) {
            assert_eq!(about.host("client"), family.address("CLIENT"));
            assert_eq!(about.get("address"), with_port(vip, 7001));
            assert_eq!(about.host("peer"), servers.address("POOL"));
        }
        eprintln!("and with lost frames");
        lab.lose_frames();
        let path = format!("http://{}/bytes/1000000", with_port(vip, 8081));
        assert_eq!(client::curl(lab, &[&path]).len(), 1_000_000);
        lab.lose_no_frames();
    });
}
