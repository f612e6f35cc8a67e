//! How cost grows with connections, services and servers: `hack/bench --scale`. One table for each; its second column is what grows.

use ulvs_dataplane::conn::table::Table;
use ulvs_dataplane::scheduler::SchedulerKind::{Mh, Rr, Wlc};
use ulvs_dataplane::service::ForwardingMethod::{DirectRouting, Nat};
use ulvs_dataplane::service::protocol::{TCP, UDP};
use ulvs_dataplane::wire::tcp::SYN;

use crate::Options;
use crate::ports::BenchIo;
use crate::rig::network::Balance;
use crate::rig::traffic::ServerSide;
use crate::rig::{Ports, Rig};

const CONNECTIONS: &[u32] = &[
    1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 4_000_000, 8_000_000, 16_000_000, 32_000_000,
];
const SERVICES: &[u16] = &[1, 10, 100, 1_000, 10_000];
const SERVERS: &[u16] = &[1, 10, 100, 1_000];
/// Where something else grows: few enough for the second-level cache.
const FEW_CONNECTIONS: u32 = 10_000;

/// Prints one of the tables; none if there is none of this name.
pub fn table(options: &Options, name: &str) -> Option<()> {
    let rows = match name {
        "connections" => connections,
        "services" => services,
        "servers" => servers,
        _ => return None,
    };
    println!("| case | {name} | ns per packet, median | 5 % | 95 % | Mpps |");
    println!("|---|---:|---:|---:|---:|---:|");
    rows(options);
    Some(())
}

fn connections(options: &Options) {
    for (name, method, protocol) in [("DR v4 UDP hit", DirectRouting, UDP), ("NAT v4 TCP hit", Nat, TCP)] {
        for &count in CONNECTIONS.iter().filter(|_| options.wants(name)) {
            let needed = Table::memory_for(count as usize) + count as usize * size_of::<ServerSide>();
            let free = available_memory();
            if needed > free / 10 * 9 {
                let [needed, free] = [needed, free].map(|bytes| bytes >> 20);
                println!("| {name} | {count} | left out: {needed} MiB needed, {free} MiB free | | | |");
                continue;
            }
            hits(options, name, Balance::v4(protocol, method), count, count as usize);
        }
    }
}

fn services(options: &Options) {
    for &services in SERVICES {
        let balance = Balance {
            services,
            ..Balance::v4(UDP, DirectRouting)
        };
        hits(
            options,
            "DR v4 UDP hit",
            balance,
            FEW_CONNECTIONS,
            usize::from(services),
        );
    }
    for &services in SERVICES {
        let balance = Balance {
            services,
            ..Balance::v4(TCP, DirectRouting)
        };
        opens(options, "new DR v4 SYN wlc", balance, usize::from(services));
    }
}

fn servers(options: &Options) {
    for &servers in SERVERS {
        let balance = Balance {
            servers,
            ..Balance::v4(UDP, DirectRouting)
        };
        hits(options, "DR v4 UDP hit", balance, FEW_CONNECTIONS, usize::from(servers));
    }
    for scheduler in [Wlc, Rr, Mh] {
        for &servers in SERVERS {
            let balance = Balance {
                scheduler,
                servers,
                ..Balance::v4(TCP, DirectRouting)
            };
            opens(
                options,
                &format!("new DR v4 SYN {scheduler}"),
                balance,
                usize::from(servers),
            );
        }
    }
}

/// Clients' packets of so many open connections in a table that they fill.
fn hits(options: &Options, name: &str, balance: Balance, connections: u32, grown: usize) {
    if !options.wants(name) {
        return;
    }
    let mut rig = Rig::new(BenchIo::new(), balance, connections as usize);
    rig.open(connections);
    let timing = rig.measure_hits(options.rounds, false);
    options.print(name, grown, &timing);
}

/// A new connection with each packet.
fn opens(options: &Options, name: &str, balance: Balance, grown: usize) {
    if !options.wants(name) {
        return;
    }
    // Some look at all servers each time; a part of the rounds tells enough.
    let rounds = (options.rounds / 5).max(1);
    let mut rig = Rig::new(BenchIo::new(), balance, rounds * BenchIo::ROUND * 2);
    let timing = rig.measure_opens(rounds, SYN);
    options.print(name, grown, &timing);
}

/// Bytes that the kernel would still give, by its own estimate.
fn available_memory() -> usize {
    let facts = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
