//! The director on real interfaces, between real clients and real servers: network namespaces, AF_XDP and DPDK on veth, curl, dig, iperf3.
//!
//! Every test makes a lab (`hack/lab`), starts `ulvsd` in it, asks as a client would, and checks that the director leaves nothing
//! behind. Needs root and the packages of `hack/setup`; without them the tests say why and skip.

#[path = "end_to_end/cases.rs"]
mod cases;
#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/client_address.rs"]
mod client_address;
#[path = "end_to_end/closed.rs"]
mod closed;
#[path = "end_to_end/command_line.rs"]
mod command_line;
#[path = "end_to_end/config.rs"]
mod config;
#[path = "end_to_end/director.rs"]
mod director;
#[cfg(feature = "dpdk")]
#[path = "end_to_end/dpdk_only.rs"]
mod dpdk_only;
#[path = "end_to_end/kernel.rs"]
mod kernel;
#[path = "end_to_end/lab.rs"]
mod lab;
#[path = "end_to_end/loss.rs"]
mod loss;
#[path = "end_to_end/neighbours.rs"]
mod neighbours;
#[path = "end_to_end/operation.rs"]
mod operation;
#[path = "end_to_end/path_mtu.rs"]
mod path_mtu;
#[path = "end_to_end/ports.rs"]
mod ports;
#[path = "end_to_end/reload.rs"]
mod reload;
#[path = "end_to_end/traffic.rs"]
mod traffic;

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

/// Makes of the table below a module of tests for each backend: `af_xdp::nat_ipv4`, `dpdk::nat_ipv4`.
macro_rules! tests {
    (
        everything { $($name:ident: $method:ident, $client:ident, $servers:ident, $arms:literal, $workers:literal;)* }
        both { $($module:ident::$test:ident;)* }
        only_af_xdp { $($af_xdp_module:ident::$af_xdp_test:ident, $reason:literal;)* }
        only_dpdk { $($dpdk_module:ident::$dpdk_test:ident;)* }
    ) => {
        tests! { @both af_xdp, AfXdp, [$($name: $method, $client, $servers, $arms, $workers;)*], [$($module::$test;)*],
            [$(#[doc = $reason] $af_xdp_module::$af_xdp_test;)*] }
        #[cfg(feature = "dpdk")]
        tests! { @both dpdk, Dpdk, [$($name: $method, $client, $servers, $arms, $workers;)*], [$($module::$test;)*],
            [$($dpdk_module::$dpdk_test;)*] }
    };
    (
        @both $backend_module:ident, $backend:ident,
        [$($name:ident: $method:ident, $client:ident, $servers:ident, $arms:literal, $workers:literal;)*],
        [$($module:ident::$test:ident;)*],
        [$($(#[$reason:meta])? $only_module:ident::$only_test:ident;)*]
    ) => {
        mod $backend_module {
            use crate::config::{Backend, Family, Method};
            $(
                #[test]
                fn $name() {
                    let case = crate::Case {
                        method: Method::$method,
                        client: Family::$client,
                        servers: Family::$servers,
                        arms: $arms,
                        workers: $workers,
                    };
                    crate::traffic::run(stringify!($name), &case, Backend::$backend);
                }
            )*
            $(
                #[test]
                fn $test() {
                    crate::$module::$test(Backend::$backend);
                }
            )*
            $(
                $(#[$reason])?
                #[test]
                fn $only_test() {
                    crate::$only_module::$only_test();
                }
            )*
        }
    };
}

tests! {
    // Everything that traffic.rs asks. DPDK's AF_XDP driver opens the cables; with two workers its TAP driver, because the former counts a
    // veth's queues as one.
    everything {
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
    both {
        client_address::toa_carries_the_clients_address;
        client_address::proxy_header_carries_the_clients_address;
        closed::a_closed_service_says_so;
        closed::a_servers_closed_port_is_told_to_the_client;
        command_line::ipvsadm_makes_drains_and_removes_what_clients_use;
        loss::transfers_survive_lost_frames;
        loss::transfers_survive_lost_frames_with_two_workers;
        neighbours::a_server_that_comes_late_is_found;
        neighbours::a_servers_new_mac_is_followed;
        neighbours::addresses_are_announced_at_the_start;
        neighbours::an_address_can_be_shared_with_the_kernel;
        neighbours::flushed_neighbours_are_found_again;
        neighbours::routes_to_servers_are_followed;
        operation::a_second_director_is_refused_and_the_first_goes_on;
        operation::sigterm_leaves_nothing_behind;
        operation::starts_again_after_kill_9;
        path_mtu::path_mtu_is_told_to_clients;
        path_mtu::segments_fit_the_way_to_the_client;
        path_mtu::what_carries_the_clients_address_fits_the_path;
        ports::a_tagged_port_carries_every_method;
        ports::one_service_mixes_methods;
        ports::other_traffic_reaches_the_kernel;
        reload::a_reload_changes_what_it_says_and_nothing_else;
    }
    only_af_xdp {
        path_mtu::jumbo_frames_pass, "None of DPDK's drivers over a veth takes a larger MTU than 1500 (TAP, AF_PACKET) or a page (AF_XDP).";
        ports::generic_mode_is_the_fall_back, "The XDP program of a DPDK port is attached by DPDK's driver, in its own way.";
        ports::one_worker_serves_two_queues, "With DPDK a worker has one queue of each port, and no port has more queues than workers.";
        operation::a_failed_start_is_explained_in_one_sentence, "Other things fail with DPDK; dpdk_only.rs has those.";
        operation::strangers_are_refused_by_the_control_socket, "The control socket is made before the backend.";
    }
    only_dpdk {
        dpdk_only::a_failed_start_is_explained;
        dpdk_only::a_link_that_goes_and_comes;
        dpdk_only::twins_of_our_own_go_with_the_director;
    }
}
