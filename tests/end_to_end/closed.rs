//! Services without a usable server, and servers with nothing on the port.

use crate::Case;
use crate::cases::{FAMILIES, in_two_configurations};
use crate::client::{self, About};
use crate::config::{Backend, Method::Nat, Service, with_port};
use crate::director::Director;
use crate::lab::{self, Lab, Shape};
use crate::traffic;

/// As with kernel IPVS, a service without a usable server answers "port unreachable".
pub fn a_closed_service_says_so(backend: Backend) {
    let Some(lab) = Lab::up("closed", Shape::usual(backend)) else {
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
pub fn a_servers_closed_port_is_told_to_the_client(backend: Backend) {
    const CLOSED: u16 = 7999;
    let Some(lab) = Lab::up("closed_port", Shape::usual(backend)) else {
        return;
    };
    for cases in in_two_configurations() {
        let service = |case: &Case| Service::new("udp", CLOSED, case.method, case.client, case.servers);
        let director = Director::start(&lab, cases.iter().map(service).collect());
        for case in &cases {
            eprintln!("{case:?}");
            let vip = traffic::vip(case);
            let answer = client::probe(&lab, "error", vip, CLOSED, &[]);
            assert!(answer.starts_with("port-unreachable "), "{answer}");
            assert_eq!(About::parse(&answer).get("from"), vip);
        }
        director.stop();
    }
}
