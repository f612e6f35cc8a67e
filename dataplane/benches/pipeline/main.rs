//! What a packet costs from the receive burst to the transmit burst, on ports in memory: `hack/bench` runs this and explains the table.
//!
//! Each round writes 512 frames (untimed), then times eight turns of a real [`Worker`](ulvs_dataplane::worker::Worker) over them: receive, pipeline,
//! transmit, housekeeping. Flows are drawn at random, so that with a million of them the connections are cold while the frames are as warm as a port's direct
//! cache access leaves them. The ports' own cost is measured alike and subtracted. No timed round may allocate.

mod count;
mod expiry;
mod ports;
#[path = "../rig/mod.rs"]
mod rig;
mod scale;

use ulvs_dataplane::counters::Event;
use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::ForwardingMethod::{self, DirectRouting, FullNat, Nat};
use ulvs_dataplane::service::protocol::{TCP, UDP};
use ulvs_dataplane::verdict::DropReason;
use ulvs_dataplane::wire::tcp::{ACK, SYN};

use ports::BenchIo;
use rig::network::{Balance, METHODS, Method};
use rig::{Ports, Rig, Timing};

const USAGE: &str = "usage: pipeline --bench [--quick | --full] [--only TEXT] [--flows N] [--rounds N] [--count | --scale connections|services|servers]";

/// What the command line asks for.
struct Options {
    flows: Vec<u32>,
    rounds: usize,
    only: Option<String>,
    is_exact: bool,
    /// Print what was measured in a form for [`count`].
    is_counted: bool,
    harness_ns: f64,
    /// How cost grows with the work, instead of the usual rows.
    scale: Option<String>,
}

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
    }
    if let Some(table) = &options.scale {
        if scale::table(&options, table).is_none() {
            println!("{USAGE}");
        }
        return;
    }
    if !options.is_counted {
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
        ends(&options, method);
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
        scale: None,
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
            "--scale" => options.scale = Some(arguments.next()?),
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
        options.harness_ns = rig::harness(&mut BenchIo::new(), options.rounds).percentile(50);
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

    /// A row of a table; `count` is what its second column says.
    fn print(&self, name: &str, count: usize, timing: &Timing) {
        if self.is_counted {
            return;
        }
        let [low, median, high] = [5, 50, 95].map(|percent| timing.percentile(percent) - self.harness_ns);
        let mpps = 1000.0 / median;
        println!("| {name} | {count} | {median:.1} | {low:.1} | {high:.1} | {mpps:.1} |");
    }
}

/// Packets of open connections, clients' and, where they come through the director, servers'.
fn hits(options: &Options, (name, method, client, server, protocol): Method, flows: u32) {
    let has_replies = matches!(method, Nat | FullNat);
    let (inbound, outbound) = (format!("{name} in"), format!("{name} out"));
    let wants = [options.wants(&inbound), has_replies && options.wants(&outbound)];
    if wants == [false; 2] {
        return;
    }
    let balance = Balance {
        client,
        server,
        ..Balance::v4(protocol, method)
    };
    let mut rig = Rig::new(BenchIo::new(), balance, flows as usize * 2);
    rig.open(flows);
    for (is_outbound, name) in [(false, inbound), (true, outbound)] {
        if wants[usize::from(is_outbound)] {
            let timing = rig.measure_hits(options.rounds, is_outbound);
            options.print(&name, flows as usize, &timing);
        }
    }
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
        scheduler,
        ..Balance::v4(protocol, method)
    };
    let flows = options.rounds * BenchIo::ROUND;
    let mut rig = Rig::new(BenchIo::new(), balance, flows * 2);
    let timing = rig.measure_opens(options.rounds, SYN);
    options.print(&name, flows, &timing);
}

/// A new connection with each packet, for each scheduler and number of servers: what the choice costs beside the rest, which is the same.
fn schedules(options: &Options, scheduler: SchedulerKind, servers: u16) {
    let name = format!("sched {scheduler}, servers: {servers}");
    if !options.wants(&name) || options.is_counted {
        return;
    }
    let balance = Balance {
        scheduler,
        servers,
        ..Balance::v4(TCP, DirectRouting)
    };
    // Some look at all servers each time; a part of the rounds tells enough.
    let rounds = (options.rounds / 5).max(1);
    let flows = rounds * BenchIo::ROUND;
    let mut rig = Rig::new(BenchIo::new(), balance, flows * 2);
    let timing = rig.measure_opens(rounds, SYN);
    options.print(&name, flows, &timing);
}

/// Connections that end by their timers, oldest first and without a packet: what housekeeping costs for each.
fn ends(options: &Options, method: ForwardingMethod) {
    let label = if method == Nat { "NAT" } else { "DR" };
    let name = format!("expiry {label} v4 UDP");
    if !options.wants(&name) || options.is_counted {
        return;
    }
    let balance = Balance::v4(UDP, method);
    let flows = options
        .flows
        .iter()
        .copied()
        .max()
        .unwrap_or(1)
        .clamp(10_000, 1_000_000);
    let mut rig = Rig::new(BenchIo::new(), balance, flows as usize);
    rig.open(flows);
    let timing = expiry::measure(&mut rig);
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
    let balance = Balance::v4(TCP, method);
    let flows = options.flows.iter().copied().max().unwrap_or(1).clamp(16, 1_000_000);
    let mut rig = Rig::new(BenchIo::new(), balance, flows as usize);
    rig.open(flows);
    let mut next = flows;
    let mut flood = move |rig: &mut Rig<BenchIo>| {
        next += 1;
        rig.draw_client(next, SYN)
    };
    let sent = (options.rounds * BenchIo::ROUND) as u64;
    let mut packets_of_flood = 0;
    let refused = |rig: &Rig<BenchIo>| match method {
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
