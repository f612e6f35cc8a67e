//! Links that carry different sizes: who is told what fits, and that nothing longer is sent.

use crate::cases::{TRANSLATIONS, in_two_configurations, two_arms};
use crate::client::{self, About};
use crate::config::{
    Backend,
    Method::{DirectRouting, FullNat, Nat, Tunnel},
    Service,
};
use crate::director::Director;
use crate::kernel;
use crate::lab::{self, Lab, Shape};
use crate::traffic;

const LINK_MTU: u16 = 1400;

/// A lab in which the link to the servers carries less than the link to the clients.
fn small_link_to_servers(test: &str, backend: Backend) -> Option<Lab> {
    let lab = Lab::up(test, Shape::usual(backend))?;
    lab.set_directors_mtu("inside", LINK_MTU);
    for host in ["server1", "server2", "server3"] {
        lab.run(host, &["ip", "link", "set", "inside", "mtu", &LINK_MTU.to_string()]);
    }
    lab.watch_for_frames_longer_than(LINK_MTU, "inside");
    Some(lab)
}

/// Ends a director that may send nothing longer than [`LINK_MTU`] to this switch.
fn stop_without_long_frames(lab: &Lab, director: Director, switch: &str) {
    director.stop();
    assert_eq!(
        lab.long_frames(switch),
        0,
        "the director sent frames that the link does not carry"
    );
}

/// Who sends too much with "don't fragment" is told what fits.
pub fn path_mtu_is_told_to_clients(backend: Backend) {
    let Some(lab) = small_link_to_servers("path_mtu", backend) else {
        return;
    };
    for cases in in_two_configurations() {
        let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
        for case in &cases {
            eprintln!("{case:?}");
            let fits = match case.method {
                Nat | DirectRouting => LINK_MTU,
                Tunnel => LINK_MTU - case.servers.header_bytes(),
                FullNat => LINK_MTU - case.servers.header_bytes() + case.client.header_bytes(),
            };
            // A route that remembers what an earlier case was told would hide whether this one is.
            lab.run("client", &["ip", "route", "flush", "cache"]);
            lab.run("client", &["ip", "-6", "route", "flush", "cache"]);
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
        }
        stop_without_long_frames(&lab, director, "inside");
    }
}

/// TOA and PROXY headers make packets longer: with the smaller segment size they still fit.
pub fn what_carries_the_clients_address_fits_the_path(backend: Backend) {
    let Some(lab) = small_link_to_servers("fits", backend) else {
        return;
    };
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
        stop_without_long_frames(&lab, director, "inside");
    }
}

/// A link to the clients that carries less than the servers believe: they are told of smaller segments when FullNAT passes the SYN on.
pub fn segments_fit_the_way_to_the_client(backend: Backend) {
    let Some(lab) = Lab::up("fits_client", Shape::usual(backend)) else {
        return;
    };
    lab.set_directors_mtu("outside", LINK_MTU);
    lab.watch_for_frames_longer_than(LINK_MTU, "outside");
    for (family, servers) in TRANSLATIONS {
        eprintln!("{family:?} to {servers:?}");
        let case = two_arms(FullNat, family, servers);
        let director = Director::start(&lab, traffic::services(&case));
        client::download(&lab, traffic::vip(&case), 1_000_000, &[]);
        assert!(director.counter("mss_clamped") > 0, "no SYN announced smaller segments");
        assert_eq!(director.counter("reply_too_big"), 0, "a TCP segment was too big");
        stop_without_long_frames(&lab, director, "outside");
    }
}

pub fn jumbo_frames_pass() {
    if kernel::skip_without_multi_buffer("jumbo_frames_pass") {
        return;
    }
    let shape = Shape {
        mtu: 9000,
        ..lab::USUAL
    };
    let Some(lab) = Lab::up("jumbo", shape) else { return };
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
