//! A worker with its ports, its configuration and its flows, and the stopwatch: for every benchmark that sends packets through a real
//! [`Worker`], whatever its ports are.

pub mod network;
pub mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use ulvs_dataplane::conn::key::{Key, KeyHasher};
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex};
use ulvs_dataplane::pipeline::{Pipeline, SPARE_FRAMES, Settings};
use ulvs_dataplane::service::{ForwardingMethod, Loads, protocol};
use ulvs_dataplane::steering::Steering;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::tcp;
use ulvs_dataplane::worker::{Mailbox, Mesh, Worker};

use network::Balance;
use traffic::ServerSide;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// How far the worker's clock goes on with each burst: 64 packets at 60 ns.
const BURST_NS: u64 = 64 * 60;

/// A packet to be made: the port it comes in on, its tuple, its TCP flags.
pub type Draw = (PortIndex, Key, u8);

/// Ports whose far ends are the generator's.
pub trait Ports: Io {
    /// Frames that fit at once, whole bursts. They are written before the clock runs, and are to be as warm then as a real port leaves them.
    const ROUND: usize;
    /// Whether what was sent can be looked at. Where not, there are no packets of servers: nobody knows what they look like.
    const SHOWS_SENT: bool;

    /// Puts a frame where the director will receive it from `port`.
    fn arrive(&mut self, port: PortIndex, frame: Self::Frame);

    /// Takes back all that was sent, and shows it in the order in which it had arrived.
    fn take_sent(&mut self, see: impl FnMut(&Self::Frame));
}

/// See the module.
pub struct Rig<P: Ports> {
    pub balance: Balance,
    pub counters: Arc<Counters>,
    pub worker: Worker<P>,
    pub now: Time,
    sides: Vec<ServerSide>,
    random: u64,
}

/// Nanoseconds per packet of each round, sorted.
pub struct Timing(Vec<f64>);

impl Timing {
    /// For rounds of so many packets, or whatever else is counted.
    pub fn of(mut rounds: Vec<Duration>, count: usize) -> Timing {
        rounds.sort();
        Timing(
            rounds
                .iter()
                .map(|round| round.as_nanos() as f64 / count as f64)
                .collect(),
        )
    }

    /// The time that `percent` of the rounds did not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

/// The timed region, and the only one: what `callgrind` counts goes by this name.
#[inline(never)]
pub fn timed_turns<P: Ports>(worker: &mut Worker<P>, now: &mut Time) {
    turns(worker, now);
}

/// A round's turns; by this name nobody counts them.
#[inline(always)]
fn turns<P: Ports>(worker: &mut Worker<P>, now: &mut Time) {
    for _ in 0..P::ROUND / BURST {
        worker.turn(*now);
        *now = *now + BURST_NS;
    }
}

/// The same work of the ports without a director between them.
#[inline(never)]
fn timed_harness<P: Ports>(io: &mut P, frames: &mut Vec<P::Frame>) {
    for _ in 0..P::ROUND / BURST {
        for port in 0..io.port_count() {
            io.receive(PortIndex(port as u8), frames);
            if !frames.is_empty() {
                io.transmit(PortIndex(port as u8), frames);
            }
        }
    }
}

/// The cost of the ports and the stopwatch alone.
pub fn harness<P: Ports>(io: &mut P, rounds: usize) -> Timing {
    let mut received = Vec::with_capacity(BURST);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        for _ in 0..P::ROUND {
            let mut frame = io.allocate().expect("the pool holds more than a round");
            frame
                .set_length(traffic::SMALLEST_FRAME)
                .expect("the smallest frames fit");
            io.arrive(network::OUTSIDE, frame);
        }
        let start = Instant::now();
        timed_harness(io, &mut received);
        times.push(start.elapsed());
        io.take_sent(|_| ());
    }
    Timing::of(times, P::ROUND)
}

impl<P: Ports> Rig<P> {
    /// Without connections yet, and with room for so many.
    pub fn new(io: P, balance: Balance, capacity: usize) -> Rig<P> {
        let servers = balance.server_slots();
        let settings = Settings {
            worker: 0,
            steering: Steering::new(1, []),
            connections: capacity,
            service_limit: usize::from(balance.services),
            server_limit: servers,
            ports: 2,
            hasher: KeyHasher::new([
                0x9e37_79b9_7f4a_7c15,
                0xbf58_476d_1ce4_e5b9,
                0x94d0_49bb_1331_11eb,
                0x2545_f491_4f6c_dd1d,
                0xd6e8_feb8_6659_fd93,
            ]),
        };
        let counters = Arc::new(Counters::new(servers));
        let now = Time::from_secs(1);
        let pipeline = Pipeline::new(settings, Arc::clone(&counters), Arc::new(Loads::new(servers)), now);
        let mut worker = Worker::new(io, pipeline, 0, Mailbox::default(), Mesh::new(1));
        worker.pipeline().adopt(now, network::snapshot(&balance));
        Rig {
            balance,
            counters,
            worker,
            now,
            sides: Vec::new(),
            random: 1,
        }
    }

    /// Connections in the table.
    pub fn connections(&mut self) -> usize {
        self.worker.pipeline().table().len()
    }

    /// Opens connections of the clients 0 to `flows` (at least a round of packets is sent) and lets the timers settle.
    pub fn open(&mut self, flows: u32) {
        self.sides = vec![ServerSide::default(); flows as usize];
        let flags: &[u8] = if self.balance.protocol == protocol::TCP {
            &[tcp::SYN, tcp::ACK]
        } else {
            &[0]
        };
        let has_replies =
            matches!(self.balance.method, ForwardingMethod::Nat | ForwardingMethod::FullNat) && P::SHOWS_SENT;
        let family = self.balance.server;
        for first in (0..flows).step_by(P::ROUND) {
            for &flags in flags {
                let mut next = first;
                self.fill(|rig| {
                    let id = next % flows;
                    next += 1;
                    rig.draw_client(id, flags)
                });
                turns(&mut self.worker, &mut self.now);
                let mut next = first;
                let sides = &mut self.sides;
                self.worker.io().take_sent(|frame| {
                    sides[(next % flows) as usize] = ServerSide::of_sent(frame, family);
                    next += 1;
                });
            }
            // A hit is a packet of a connection that both sides have used: the first reply looks the way back up.
            if has_replies {
                let mut next = first;
                self.fill(|rig| {
                    let id = next % flows;
                    next += 1;
                    rig.draw_server(id, tcp::ACK)
                });
                turns(&mut self.worker, &mut self.now);
                self.worker.io().take_sent(|_| ());
            }
        }
        let expected = flows as usize;
        assert_eq!(self.connections(), expected, "every client has its connection");
        // Every timer that was set for a connection's first seconds has been looked at by then.
        let settled = self.now + Time::from_secs(10).0;
        while self.now < settled {
            for _ in 0..expected / 64 / 150 + 1 {
                self.worker.turn(self.now);
            }
            self.now = self.now + Time::from_millis(67).0;
        }
        assert_eq!(self.connections(), expected, "none has expired");
    }

    /// A packet of a client.
    pub fn draw_client(&mut self, id: u32, flags: u8) -> Draw {
        (network::OUTSIDE, traffic::client(&self.balance, id), flags)
    }

    /// A packet of a client's server.
    pub fn draw_server(&mut self, id: u32, flags: u8) -> Draw {
        let reply = self.sides[id as usize].reply(&self.balance, id);
        (network::INSIDE, reply, flags)
    }

    /// A random one of the open connections (xorshift64).
    pub fn any(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * self.sides.len() as u128) >> 64) as u32
    }

    fn fill(&mut self, mut draw: impl FnMut(&mut Rig<P>) -> Draw) {
        for _ in 0..P::ROUND {
            let (port, tuple, flags) = draw(self);
            let io = self.worker.io();
            let mut frame = io.allocate().expect("the pool holds more than a round");
            traffic::write(&mut frame, usize::from(port.0), &tuple, flags);
            io.arrive(port, frame);
        }
    }

    /// Times rounds of packets that `draw` chooses. Frames are written outside of the timed region.
    pub fn measure(&mut self, rounds: usize, mut draw: impl FnMut(&mut Rig<P>) -> Draw) -> Timing {
        let mut times = Vec::with_capacity(rounds);
        for round in 0..rounds {
            self.fill(&mut draw);
            let (region, start) = (Region::new(ALLOCATOR), Instant::now());
            timed_turns(&mut self.worker, &mut self.now);
            let elapsed = start.elapsed();
            let change = region.change();
            // The first turn fills the worker's spare frames, nothing else may ever take memory.
            assert_eq!(
                change.allocations + change.reallocations,
                0,
                "memory was taken in round {round}"
            );
            times.push(elapsed);
            self.worker.io().take_sent(|_| ());
        }
        assert!(self.worker.pipeline().output.spare.len() <= SPARE_FRAMES);
        Timing::of(times, P::ROUND)
    }

    /// Packets of open connections, chosen at random: the clients', or their servers'. All of them must go out.
    pub fn measure_hits(&mut self, rounds: usize, is_outbound: bool) -> Timing {
        let before = self.transmitted();
        let timing = self.measure(rounds, |rig| {
            let id = rig.any();
            if is_outbound {
                rig.draw_server(id, tcp::ACK)
            } else {
                rig.draw_client(id, tcp::ACK)
            }
        });
        let sent = self.transmitted() - before;
        assert_eq!(sent, (rounds * P::ROUND) as u64, "every packet went out");
        timing
    }

    /// A packet each of clients that have none yet, with these TCP flags. All of them must make a connection.
    pub fn measure_opens(&mut self, rounds: usize, flags: u8) -> Timing {
        let mut next = 0;
        let timing = self.measure(rounds, |rig| {
            next += 1;
            rig.draw_client(next, flags)
        });
        assert_eq!(self.connections(), rounds * P::ROUND, "every packet made a connection");
        timing
    }

    /// Verdict "transmit" so far.
    pub fn transmitted(&self) -> u64 {
        self.counters.event(Event::Transmitted).get()
    }
}
