//! What a packet costs on DPDK's ports, beside DPDK's own forwarder on the same kind of port in the same run: `hack/bench --dpdk` runs this and explains
//! the tables. The rig and its traffic are those of the dataplane's benchmark.

mod ports;
#[path = "../../dataplane/benches/rig/mod.rs"]
mod rig;
mod testpmd;

use ulvs::dpdk::{self, DpdkIo, Settings};
use ulvs_dataplane::service::ForwardingMethod::{DirectRouting, FullNat, Nat};
use ulvs_dataplane::service::protocol::TCP;
use ulvs_dataplane::wire::tcp::SYN;

use ports::{DpdkPorts, Driver};
use rig::network::{Balance, METHODS, Method};
use rig::{Ports, Rig, Timing};

const USAGE: &str = "usage: dpdk --bench [--flows N] [--rounds N] [--only TEXT]";
/// For each of the six ports.
const FRAMES: u32 = 512;

struct Options {
    flows: u32,
    packets: usize,
    only: Option<String>,
}

/// What the rows of one driver are compared with, in nanoseconds per packet.
struct Beside {
    ports: f64,
    macswap: Option<f64>,
}

fn main() {
    let Some(options) = options() else {
        println!("{USAGE}");
        return;
    };
    let to_stderr = tracing_subscriber::fmt().with_writer(std::io::stderr);
    to_stderr.with_ansi(false).with_max_level(tracing::Level::WARN).init();
    let settings = Settings {
        frames: Some(FRAMES),
        ..Settings::new(ports::devices())
    };
    let mut opened = match dpdk::open(&settings) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    let pages = if opened.huge_pages { "huge" } else { "ordinary" };
    println!("Packet buffers on {pages} pages.\n");
    let io = opened.workers.pop().expect("one worker was asked for");
    let io = driver::<false>(io, Driver::Ring, opened.huge_pages, &options);
    let io = driver::<true>(io, Driver::Null, opened.huge_pages, &options);
    drop((io, opened.counters));
    opened.ports.close();
}

fn options() -> Option<Options> {
    let mut options = Options {
        flows: 1_000_000,
        packets: 1500 * 512,
        only: None,
    };
    let mut is_bench = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--flows" => options.flows = arguments.next()?.parse().ok()?,
            "--rounds" => options.packets = arguments.next()?.parse::<usize>().ok()? * 512,
            "--only" => options.only = Some(arguments.next()?),
            _ => return None,
        }
    }
    is_bench.then_some(options)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// All rows of one driver.
fn driver<const NULL: bool>(io: DpdkIo, driver: Driver, has_huge_pages: bool, options: &Options) -> DpdkIo {
    let mut ports = DpdkPorts::<NULL>::new(io);
    let rounds = options.packets / DpdkPorts::<NULL>::ROUND;
    let alone = rig::harness(&mut ports, rounds);
    println!("| {} | ns per packet | 5 % | 95 % |", driver.name());
    println!("|---|---:|---:|---:|");
    let [low, median, high] = [5, 50, 95].map(|percent| alone.percentile(percent));
    println!("| ULVS, receive and send alone | {median:.1} | {low:.1} | {high:.1} |");
    let mut beside = Beside {
        ports: median,
        macswap: None,
    };
    for mode in ["io", "macswap"] {
        match testpmd::ns_per_packet(driver.device(), mode, has_huge_pages) {
            Ok(ns) => {
                println!("| testpmd, {mode} | {ns:.1} | | |");
                beside.macswap = Some(ns);
            }
            Err(sentence) => println!("| testpmd, {mode} | {sentence} | | |"),
        }
    }
    println!("\n| case | connections | ns per packet with the port | 5 % | 95 % | without the port | above macswap |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for &method in METHODS {
        ports = hits(ports, method, rounds, &beside, options);
    }
    for (name, method) in [("DR", DirectRouting), ("NAT", Nat), ("FullNAT", FullNat)] {
        ports = opens(
            ports,
            &format!("new {name} v4 SYN wlc"),
            Balance::v4(TCP, method),
            rounds,
            &beside,
            options,
        );
    }
    println!();
    ports.into_io()
}

/// Packets of open connections, chosen at random.
fn hits<P: Ports>(
    ports: P,
    (name, method, client, server, protocol): Method,
    rounds: usize,
    beside: &Beside,
    options: &Options,
) -> P {
    // What the servers' packets look like is only known where those that were sent to them are seen.
    let has_replies = matches!(method, Nat | FullNat) && P::SHOWS_SENT;
    let rows = [(false, format!("{name} in")), (true, format!("{name} out"))];
    let rows = rows.into_iter().filter(|(is_outbound, _)| !is_outbound || has_replies);
    let rows: Vec<_> = rows.filter(|(_, name)| options.wants(name)).collect();
    if rows.is_empty() {
        return ports;
    }
    let balance = Balance {
        client,
        server,
        ..Balance::v4(protocol, method)
    };
    let mut rig = Rig::new(ports, balance, options.flows as usize * 2);
    rig.open(options.flows);
    for (is_outbound, name) in rows {
        let timing = rig.measure_hits(rounds, is_outbound);
        print(&name, options.flows as usize, &timing, beside);
    }
    rig.worker.into_io()
}

/// A new connection with each packet.
fn opens<P: Ports>(ports: P, name: &str, balance: Balance, rounds: usize, beside: &Beside, options: &Options) -> P {
    if !options.wants(name) {
        return ports;
    }
    let connections = rounds * P::ROUND;
    let mut rig = Rig::new(ports, balance, connections * 2);
    let timing = rig.measure_opens(rounds, SYN);
    print(name, connections, &timing, beside);
    rig.worker.into_io()
}

fn print(name: &str, connections: usize, timing: &Timing, beside: &Beside) {
    let [low, median, high] = [5, 50, 95].map(|percent| timing.percentile(percent));
    let net = median - beside.ports;
    let above = beside
        .macswap
        .map_or(String::new(), |macswap| format!("{:.1}", median - macswap));
    println!("| {name} | {connections} | {median:.1} | {low:.1} | {high:.1} | {net:.1} | {above} |");
}
