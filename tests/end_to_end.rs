//! The director on real interfaces, between real clients and real servers: network namespaces, AF_XDP on veth, curl, dig, iperf3.
//!
//! Every test makes a lab (`hack/lab`), starts `ulvsd` in it, asks as a client would, and checks that the director leaves nothing
//! behind. Needs root and the packages of `hack/setup`; without them the tests say why and skip.

#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/command_line.rs"]
mod command_line;
#[path = "end_to_end/config.rs"]
mod config;
#[path = "end_to_end/director.rs"]
mod director;
#[cfg(feature = "dpdk")]
#[path = "end_to_end/dpdk.rs"]
mod dpdk;
#[path = "end_to_end/kernel.rs"]
mod kernel;
#[path = "end_to_end/lab.rs"]
mod lab;
#[path = "end_to_end/neighbours.rs"]
mod neighbours;
#[path = "end_to_end/operation.rs"]
mod operation;
#[path = "end_to_end/reload.rs"]
mod reload;
#[path = "end_to_end/special.rs"]
mod special;
#[path = "end_to_end/traffic.rs"]
mod traffic;

use config::{
    Family::{V4, V6},
    Method::{DirectRouting, FullNat, Nat, Tunnel},
};

/// One row: everything in [`traffic::ALL`] through one forwarding method.
#[derive(Clone, Copy, Debug)]
struct Case {
    method: config::Method,
    /// Family of the client and the VIP.
    client: config::Family,
    /// Family of the servers' addresses.
    servers: config::Family,
    /// 2: clients and servers on different ports of the director; 1: on the same.
    arms: u8,
    /// Workers of the director, and queues of every port. With more than one, replies also arrive at a worker that does not own
    /// their connection.
    workers: u8,
}

macro_rules! cases {
    ($($name:ident: $method:ident, $client:ident, $servers:ident, $arms:literal, $workers:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let case = Case { method: $method, client: $client, servers: $servers, arms: $arms, workers: $workers };
                traffic::run(stringify!($name), &case);
            }
        )*
    };
}

cases! {
    // test                          method         client  servers  arms  workers
    nat_ipv4:                        Nat,           V4,     V4,      2,    1;
    nat_ipv6:                        Nat,           V6,     V6,      2,    1;
    dr_ipv4:                         DirectRouting, V4,     V4,      2,    1;
    dr_ipv6:                         DirectRouting, V6,     V6,      2,    1;
    tun_ipv4_in_ipv4:                Tunnel,        V4,     V4,      2,    1;
    tun_ipv6_in_ipv6:                Tunnel,        V6,     V6,      2,    1;
    tun_ipv4_in_ipv6:                Tunnel,        V4,     V6,      2,    1;
    tun_ipv6_in_ipv4:                Tunnel,        V6,     V4,      2,    1;
    fullnat_ipv4:                    FullNat,       V4,     V4,      2,    1;
    fullnat_ipv6:                    FullNat,       V6,     V6,      2,    1;
    fullnat_ipv6_to_ipv4:            FullNat,       V6,     V4,      2,    1;
    fullnat_ipv4_to_ipv6:            FullNat,       V4,     V6,      2,    1;

    nat_ipv4_one_arm:                Nat,           V4,     V4,      1,    1;
    nat_ipv6_one_arm:                Nat,           V6,     V6,      1,    1;
    dr_ipv4_one_arm:                 DirectRouting, V4,     V4,      1,    1;
    dr_ipv6_one_arm:                 DirectRouting, V6,     V6,      1,    1;
    tun_ipv4_one_arm:                Tunnel,        V4,     V4,      1,    1;
    tun_ipv6_one_arm:                Tunnel,        V6,     V6,      1,    1;
    fullnat_ipv4_one_arm:            FullNat,       V4,     V4,      1,    1;
    fullnat_ipv6_one_arm:            FullNat,       V6,     V6,      1,    1;

    nat_ipv4_two_workers:            Nat,           V4,     V4,      2,    2;
    nat_ipv6_two_workers:            Nat,           V6,     V6,      2,    2;
    dr_ipv4_two_workers:             DirectRouting, V4,     V4,      2,    2;
    dr_ipv6_two_workers:             DirectRouting, V6,     V6,      2,    2;
    tun_ipv4_two_workers:            Tunnel,        V4,     V4,      2,    2;
    tun_ipv6_two_workers:            Tunnel,        V6,     V6,      2,    2;
    fullnat_ipv4_two_workers:        FullNat,       V4,     V4,      2,    2;
    fullnat_ipv6_two_workers:        FullNat,       V6,     V6,      2,    2;
    fullnat_ipv6_to_ipv4_two_workers: FullNat,      V6,     V4,      2,    2;
    fullnat_ipv4_to_ipv6_two_workers: FullNat,      V4,     V6,      2,    2;
    nat_ipv4_one_arm_two_workers:    Nat,           V4,     V4,      1,    2;
    fullnat_ipv4_one_arm_two_workers: FullNat,      V4,     V4,      1,    2;
    fullnat_ipv6_to_ipv4_one_arm:    FullNat,       V6,     V4,      1,    1;
    fullnat_ipv4_to_ipv6_one_arm:    FullNat,       V4,     V6,      1,    1;
}
