//! What a packet costs from the receive burst to the transmit burst, on ports in memory: `hack/bench` runs this and explains the table.
//!
//! Each round writes 512 frames (untimed), then times eight turns of a real [`Worker`](ulvs_dataplane::worker::Worker) over them: receive, pipeline,
//! transmit, housekeeping. Flows are drawn at random, so that with a million of them the connections are cold while the frames are as warm as a port's direct
//! cache access leaves them. The ports' own cost is measured alike and subtracted. No timed round may allocate.

mod count;
mod network;
mod ports;
mod rig;
mod traffic;

use ulvs_dataplane::address::Family::{self, V4, V6};
use ulvs_dataplane::counters::Event;
use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::ForwardingMethod::{self, DirectRouting, FullNat, Nat, Tunnel};
use ulvs_dataplane::service::protocol::{TCP, UDP};
use ulvs_dataplane::verdict::DropReason;
use ulvs_dataplane::wire::tcp::{ACK, SYN};

use network::{Balance, SERVERS};
use rig::{Rig, Timing};

const USAGE: &str = "usage: pipeline --bench [--quick | --full] [--only TEXT] [--flows N] [--rounds N] [--count]";

/// What the command line asks for.
struct Options {
    flows: Vec<u32>,
    rounds: usize,
    only: Option<String>,
    is_exact: bool,
    /// Print what was measured in a form for [`count`].
    is_counted: bool,
    harness_ns: f64,
}

/// A method with its families and protocol, as a row is called.
const METHODS: &[(&str, ForwardingMethod, Family, Family, u8)] = &[
    ("DR v4 UDP", DirectRouting, V4, V4, UDP),
    ("DR v4 TCP", DirectRouting, V4, V4, TCP),
    ("DR v6 TCP", DirectRouting, V6, V6, TCP),
    ("TUN v4 UDP", Tunnel, V4, V4, UDP),
    ("TUN v6 TCP", Tunnel, V6, V6, TCP),
    ("NAT v4 UDP", Nat, V4, V4, UDP),
    ("NAT v4 TCP", Nat, V4, V4, TCP),
    ("NAT v6 TCP", Nat, V6, V6, TCP),
    ("FullNAT v4 UDP", FullNat, V4, V4, UDP),
    ("FullNAT v4 TCP", FullNat, V4, V4, TCP),
    ("FullNAT v6 TCP", FullNat, V6, V6, TCP),
    ("FullNAT 6→4 TCP", FullNat, V6, V4, TCP),
];

fn main() {
    let Some(options) = options() else {
        println!("{USAGE}");
        return;
    };
    if !options.is_counted {
        println!(
            "harness alone, already subtracted: {:.1} ns per packet\n",
            options.harness_ns
        );
        println!("| case | connections | ns per packet, median | 5 % | 95 % | Mpps |");
        println!("|---|---:|---:|---:|---:|---:|");
    }
    for &method in METHODS {
        for &flows in &options.flows {
            hits(&options, method, flows);
        }
    }
    for method in [DirectRouting, Nat, FullNat] {
        for scheduler in [SchedulerKind::Wlc, SchedulerKind::Rr, SchedulerKind::Mh] {
            for protocol in [UDP, TCP] {
                opens(&options, method, scheduler, protocol);
            }
        }
    }
    for &scheduler in SchedulerKind::ALL {
        for servers in [1, 10, 1000] {
            schedules(&options, scheduler, servers);
        }
    }
    for method in [DirectRouting, Nat] {
        expiry(&options, method);
        flood(&options, method);
    }
}

fn options() -> Option<Options> {
    let mut options = Options {
        flows: vec![1, 10_000, 1_000_000],
        rounds: 1500,
        only: None,
        is_exact: false,
        is_counted: false,
        harness_ns: 0.0,
    };
    let mut is_bench = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--quick" => (options.flows, options.rounds) = (vec![10_000, 1_000_000], 400),
            "--full" => options.flows.push(8_000_000),
            "--only" => options.only = Some(arguments.next()?),
            "--flows" => options.flows = vec![arguments.next()?.parse().ok()?],
            "--rounds" => options.rounds = arguments.next()?.parse().ok()?,
            "--exact" => options.is_exact = true,
            "--counted" => options.is_counted = true,
            "--count" => {
                count::table();
                std::process::exit(0);
            }
            _ => return None,
        }
    }
    if !options.is_counted {
        options.harness_ns = rig::harness(options.rounds).percentile(50);
    }
    is_bench.then_some(options)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| {
            if self.is_exact {
                name == only
            } else {
                name.contains(only.as_str())
            }
        })
    }

    fn print(&self, name: &str, connections: usize, timing: &Timing) {
        if self.is_counted {
            return;
        }
        let [low, median, high] = [5, 50, 95].map(|percent| timing.percentile(percent) - self.harness_ns);
        let mpps = 1000.0 / median;
        println!("| {name} | {connections} | {median:.1} | {low:.1} | {high:.1} | {mpps:.1} |");
    }
}

/// Packets of open connections, clients' and, where they come through the director, servers'.
fn hits(
    options: &Options,
    (name, method, client, server, protocol): (&str, ForwardingMethod, Family, Family, u8),
    flows: u32,
) {
    let has_replies = matches!(method, Nat | FullNat);
    let (inbound, outbound) = (format!("{name} in"), format!("{name} out"));
    let wants = [options.wants(&inbound), has_replies && options.wants(&outbound)];
    if wants == [false; 2] {
        return;
    }
    let scheduler = SchedulerKind::Wlc;
    let balance = Balance {
        protocol,
        method,
        client,
        server,
        scheduler,
        servers: SERVERS,
    };
    let mut rig = Rig::new(balance, flows as usize * 2);
    rig.open(flows);
    let before = rig.transmitted();
    let mut sent = 0;
    if wants[0] {
        let timing = rig.measure(options.rounds, |rig| {
            let id = rig.any();
            rig.draw_client(id, ACK)
        });
        sent += (options.rounds * ports::ROUND) as u64;
        options.print(&inbound, flows as usize, &timing);
    }
    if wants[1] {
        let timing = rig.measure(options.rounds, |rig| {
            let id = rig.any();
            rig.draw_server(id, ACK)
        });
        sent += (options.rounds * ports::ROUND) as u64;
        options.print(&outbound, flows as usize, &timing);
    }
    assert_eq!(rig.transmitted() - before, sent, "every packet went out");
    assert_eq!(rig.connections(), flows as usize);
}

/// A new connection with each packet, into a table that does not fill.
fn opens(options: &Options, method: ForwardingMethod, scheduler: SchedulerKind, protocol: u8) {
    let label = match method {
        DirectRouting => "DR",
        Nat => "NAT",
        _ => "FullNAT",
    };
    let packet = if protocol == TCP { "SYN" } else { "UDP" };
    let name = format!("new {label} v4 {packet} {scheduler}");
    if !options.wants(&name) {
        return;
    }
    let balance = Balance {
        protocol,
        method,
        client: V4,
        server: V4,
        scheduler,
        servers: SERVERS,
    };
    let flows = options.rounds * ports::ROUND;
    let mut rig = Rig::new(balance, flows * 2);
    let mut next = 0;
    let timing = rig.measure(options.rounds, |rig| {
        next += 1;
        rig.draw_client(next, SYN)
    });
    assert_eq!(rig.connections(), flows, "every packet made a connection");
    options.print(&name, flows, &timing);
}

/// A new connection with each packet, for each scheduler and number of servers: what the choice costs beside the rest, which is the same.
fn schedules(options: &Options, scheduler: SchedulerKind, servers: u16) {
    let name = format!("sched {scheduler}, servers: {servers}");
    if !options.wants(&name) || options.is_counted {
        return;
    }
    let balance = Balance {
        protocol: TCP,
        method: DirectRouting,
        client: V4,
        server: V4,
        scheduler,
        servers,
    };
    // Some look at all servers each time; a part of the rounds tells enough.
    let rounds = (options.rounds / 5).max(1);
    let flows = rounds * ports::ROUND;
    let mut rig = Rig::new(balance, flows * 2);
    let mut next = 0;
    let timing = rig.measure(rounds, |rig| {
        next += 1;
        rig.draw_client(next, SYN)
    });
    assert_eq!(rig.connections(), flows, "every packet made a connection");
    options.print(&name, flows, &timing);
}

/// Connections that end by their timers, oldest first and without a packet: what housekeeping costs for each.
fn expiry(options: &Options, method: ForwardingMethod) {
    let label = if method == Nat { "NAT" } else { "DR" };
    let name = format!("expiry {label} v4 UDP");
    if !options.wants(&name) || options.is_counted {
        return;
    }
    let scheduler = SchedulerKind::Wlc;
    let balance = Balance {
        protocol: UDP,
        method,
        client: V4,
        server: V4,
        scheduler,
        servers: SERVERS,
    };
    let flows = options
        .flows
        .iter()
        .copied()
        .max()
        .unwrap_or(1)
        .clamp(10_000, 1_000_000);
    let mut rig = Rig::new(balance, flows as usize);
    rig.open(flows);
    let timing = rig.measure_expiry();
    options.print(&name, flows as usize, &timing);
}

/// A flood of SYNs into a full table, alone and one to one with packets of the connections in it.
fn flood(options: &Options, method: ForwardingMethod) {
    let label = if method == Nat { "NAT" } else { "DR" };
    let (alone, mixed) = (
        format!("flood {label} v4 SYN"),
        format!("flood {label} v4 SYN + established"),
    );
    if !options.wants(&alone) && !options.wants(&mixed) {
        return;
    }
    let scheduler = SchedulerKind::Wlc;
    let balance = Balance {
        protocol: TCP,
        method,
        client: V4,
        server: V4,
        scheduler,
        servers: SERVERS,
    };
    let flows = options.flows.iter().copied().max().unwrap_or(1).clamp(16, 1_000_000);
    let mut rig = Rig::new(balance, flows as usize);
    rig.open(flows);
    let mut next = flows;
    let mut flood = move |rig: &mut Rig| {
        next += 1;
        rig.draw_client(next, SYN)
    };
    let sent = (options.rounds * ports::ROUND) as u64;
    let mut packets_of_flood = 0;
    let refused = |rig: &Rig| match method {
        Nat => rig.counters.dropped(DropReason::TableFull).get(),
        _ => rig.counters.event(Event::StatelessForwarded).get(),
    };
    if options.wants(&alone) {
        let timing = rig.measure(options.rounds, &mut flood);
        packets_of_flood += sent;
        options.print(&alone, flows as usize, &timing);
    }
    if options.wants(&mixed) {
        let mut is_flood = false;
        let timing = rig.measure(options.rounds, |rig| {
            is_flood = !is_flood;
            if is_flood {
                return flood(rig);
            }
            let id = rig.any();
            rig.draw_client(id, ACK)
        });
        packets_of_flood += sent / 2;
        options.print(&mixed, flows as usize, &timing);
    }
    assert_eq!(
        refused(&rig),
        packets_of_flood,
        "what found no room was forwarded or dropped by its name"
    );
    assert_eq!(rig.connections(), flows as usize, "all connections are still there");
}
