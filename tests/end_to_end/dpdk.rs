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
    traffic::ask_everything(&lab, case);
    // What is not balanced reaches the kernel through the twin, and its answers leave by the port.
    lab.run(
        "client",
        &["ping", "-c", "3", "-i", "0.2", "-W", "5", address("DIRECTOR_OUTSIDE4")],
    );
    director.stop();
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
