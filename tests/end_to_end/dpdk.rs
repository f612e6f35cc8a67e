//! The director over DPDK, whose AF_XDP driver takes the lab's cables, with twins in the kernel.

use crate::Case;
use crate::config::Family::{V4, V6};
use crate::config::Method::{DirectRouting, FullNat, Nat};
use crate::config::{Backend, Config};
use crate::director::Director;
use crate::lab::{self, Lab, Shape, address};
use crate::traffic;

/// Everything in [`traffic::ALL`] through one forwarding method.
fn run(test: &str, case: &Case) {
    let shape = Shape {
        arms: case.arms,
        queues: case.workers,
        ..lab::USUAL
    };
    let Some(lab) = Lab::up(test, shape) else { return };
    lab.take_ports_from_kernel();
    let director = start(&lab, case);
    // DPDK's AF_PACKET driver, which two workers need here, has the kernel put fragments together, to packets that no longer fit the link.
    let has_fragments = |name: &str| name == "DNS" || name.contains("fragments");
    for (name, check) in traffic::ALL {
        if case.workers == 1 || !has_fragments(name) {
            eprintln!("{name}");
            check(&lab, case);
        }
    }
    // What is not balanced reaches the kernel through the twin, and its answers leave by the port.
    lab.run(
        "client",
        &["ping", "-c", "3", "-i", "0.2", "-W", "5", address("DIRECTOR_OUTSIDE4")],
    );
    // No packet buffer is missing in the end; of DPDK's AF_XDP driver that cannot be said.
    if case.workers == 1 {
        director.stop();
    } else {
        let log = director.log_file();
        director.stop_without_xdp();
        let log = std::fs::read_to_string(log).expect("the log");
        assert!(
            log.contains("ulvsd has stopped") && !log.contains("did not come back"),
            "{log}"
        );
    }
}

fn start<'a>(lab: &'a Lab, case: &Case) -> Director<'a> {
    let config = Config {
        backend: Backend::Dpdk,
        ..Config::usual(lab, traffic::services(case))
    };
    Director::start_with(lab, config)
}

#[test]
fn dpdk_nat_ipv4() {
    let case = Case {
        method: Nat,
        client: V4,
        servers: V4,
        arms: 2,
        workers: 1,
    };
    run("dpdk_nat_ipv4", &case);
}

#[test]
fn dpdk_dr_ipv6_one_arm() {
    let case = Case {
        method: DirectRouting,
        client: V6,
        servers: V6,
        arms: 1,
        workers: 1,
    };
    run("dpdk_dr_ipv6_one_arm", &case);
}

#[test]
fn dpdk_fullnat_ipv4_two_workers() {
    let case = Case {
        method: FullNat,
        client: V4,
        servers: V4,
        arms: 2,
        workers: 2,
    };
    run("dpdk_fullnat_ipv4_two_workers", &case);
}

/// A port's link is its twin's: what the kernel and routing programs on the director see.
#[test]
fn dpdk_a_link_that_goes_and_comes() {
    let Some(lab) = Lab::up("dpdk_a_link_that_goes_and_comes", lab::USUAL) else {
        return;
    };
    lab.take_ports_from_kernel();
    let config = Config {
        backend: Backend::Dpdk,
        ..Config::usual(&lab, Vec::new())
    };
    // DPDK's TAP driver is one that tells the state of its link: that of an interface of this name.
    let text = config
        .to_toml()
        .replace("net_af_xdp0,iface=wire-outside", "net_tap0,iface=card");
    assert!(text.contains("net_tap0,iface=card"), "{text}");
    let director = Director::start_with_text(&lab, &text);
    let carrier_of_twin = || {
        lab.run("director", &["cat", "/sys/class/net/outside/carrier"])
            .trim()
            .to_owned()
    };
    director.wait_for_log("port outside: the link is up");
    assert_eq!(carrier_of_twin(), "1");
    lab.run("director", &["ip", "link", "set", "card", "down"]);
    director.wait_for_log("port outside: the link is down");
    lab.wait_until(|| carrier_of_twin() == "0", "the twin loses its link");
    lab.run("director", &["ip", "link", "set", "card", "up"]);
    lab.wait_until(|| carrier_of_twin() == "1", "the twin has its link again");
    director.kill();
}

#[test]
fn dpdk_kill_9_and_start_again() {
    let case = Case {
        method: Nat,
        client: V4,
        servers: V4,
        arms: 2,
        workers: 1,
    };
    let Some(lab) = Lab::up("dpdk_kill_9_and_start_again", lab::USUAL) else {
        return;
    };
    lab.take_ports_from_kernel();
    start(&lab, &case).kill();
    let director = Director::start_again(&lab);
    let (name, request) = traffic::ALL[0];
    eprintln!("{name}");
    request(&lab, &case);
    // Not an orderly end: the interfaces are as the first director left them.
    director.kill();
}
