//! The director, the network around it, and what must hold of both.

mod checks;
mod clients;
mod configuration;
mod fields;
mod inspection;
mod network;
mod sending;
mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::memory::{MemoryFrame, MemoryIo};
use ulvs_dataplane::io::{Io, PortIndex};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::Loads;
use ulvs_dataplane::snapshot::Snapshot;
use ulvs_dataplane::steering::{RssFields, Steering};
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::ethernet::Mac;
use ulvs_dataplane::worker::{Mailbox, Mesh, Worker};

use super::flows::{Endpoint, Flow};
use super::packet::Reassembly;
use super::plan::{Plan, SERVERS};
use super::random::Random;
use sending::Sent;

/// What went wrong, in words.
type Checked<T = ()> = Result<T, String>;

/// Leaves with the text as the error unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition { return Err(format!($($text)+)); }
    };
}
use ensure;

/// Frames of each worker's pool: few in some runs, so that it is empty now and then (64 are kept spare).
const POOL: [usize; 3] = [80, 150, 700];
/// Entries of each worker's table: few in some runs, so that it fills.
const CONNECTIONS: [usize; 3] = [16, 48, 400];
const SECOND: u64 = 1_000_000_000;

/// Where a frame is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Director(PortIndex),
    Clients,
    Server(Mac),
}

/// A server, and the ends of a connection as it sees them: its own, then the peer's.
type EndpointKey = (Mac, Address, u16, Address, u16);

/// How the network behaves, in percent of frames.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: usize,
    pub duplicated: usize,
    pub late: usize,
}

/// How much came through: a run that tested nothing must not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub complete: u64,
    pub to_servers: u64,
    pub to_clients: u64,
    pub datagrams: u64,
    pub icmp: u64,
    pub stateless: u64,
    pub redirected: u64,
    pub reused: u64,
    pub expired: u64,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many; none: any number.
    pub workers: Option<u8>,
    /// What the cards hash outside and inside, if packets come to queues as cards would bring them; then all packets are whole, since of fragments and ICMP errors
    /// a card does not know whose they are, and no rubbish is sent.
    pub rss: Option<[RssFields; 2]>,
}

/// See the module.
pub struct World {
    pub random: Random,
    pub now: Time,
    pub plan: Plan,
    pub weather: Weather,
    pub tally: Tally,
    /// A hash over everything that left the director.
    pub trace: u64,
    pub setup: Setup,
    steering: Steering,
    by_hash: bool,
    pool: usize,
    workers: Vec<Worker<MemoryIo>>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<Counters>>,
    loads: Arc<Loads>,
    generations: Vec<u64>,
    letters: Vec<Vec<Arc<Snapshot>>>,
    wire: BTreeMap<(u64, u64), (Place, Vec<u8>)>,
    wire_serial: u64,
    flows: Vec<Flow>,
    by_tuple: BTreeMap<(Address, u16, usize), Vec<u32>>,
    /// When somebody last sent a FIN or RST between these ends.
    ended: BTreeMap<(Address, u16, usize), Time>,
    endpoints: BTreeMap<EndpointKey, Endpoint>,
    sent: BTreeMap<u32, Sent>,
    serial: u32,
    /// Whom a server talks to under a tuple of its own: the flow that last came to it from there.
    peers: BTreeMap<EndpointKey, u32>,
    /// Packets that left lately, by port: what routers complain about.
    lately: [Vec<Vec<u8>>; 2],
    tap: Reassembly,
    hosts: BTreeMap<Mac, Reassembly>,
    clients: Reassembly,
}

impl World {
    pub fn new(seed: u64, setup: Setup) -> World {
        let mut random = Random::new(seed);
        let any = *random.pick(&[1, 2, 5, 16]);
        let count = setup.workers.unwrap_or(any);
        let steering = Steering::new(count, setup.rss.into_iter().flatten());
        let count = usize::from(count);
        let has_nat = setup.rss.is_none_or(|rss| rss != [RssFields::Tuple; 2]);
        let plan = Plan::new(&mut random, has_nat);
        let hasher = KeyHasher::new(std::array::from_fn(|_| random.next()));
        // Some runs start shortly before the wheel's tick wraps around.
        let start = *random.pick(&[1000 * SECOND, ((1 << 32) - 4000) << 26]);
        let pool = *random.pick(&POOL);
        let connections = *random.pick(&CONNECTIONS);
        let loads = Arc::new(Loads::new(plan.services.len() * SERVERS));
        let mesh = Mesh::new(count);
        let mailboxes: Vec<Mailbox> = (0..count).map(|_| Mailbox::default()).collect();
        let slots = plan.services.len() * SERVERS;
        let counters: Vec<_> = (0..count).map(|_| Arc::new(Counters::new(slots))).collect();
        let worker = |number: usize| {
            let settings = Settings {
                worker: number as u8,
                steering,
                connections,
                service_limit: plan.services.len(),
                server_limit: slots,
                ports: 2,
                hasher,
            };
            let pipeline = Pipeline::new(settings, counters[number].clone(), loads.clone(), Time(start));
            let io = MemoryIo::new(2, pool, 2048);
            Worker::new(io, pipeline, number, mailboxes[number].clone(), mesh.clone())
        };
        let workers = (0..count).map(worker).collect();
        let weather = Weather {
            lost: *random.pick(&[0, 3, 20]),
            duplicated: *random.pick(&[0, 2, 10]),
            late: *random.pick(&[0, 10, 40]),
        };
        let mut world = World {
            now: Time(start),
            weather,
            tally: Tally::default(),
            trace: 0,
            setup,
            steering,
            by_hash: random.chance(50),
            pool,
            workers,
            mailboxes,
            counters,
            loads,
            generations: vec![0; count],
            letters: vec![Vec::new(); count],
            wire: BTreeMap::new(),
            wire_serial: 0,
            flows: Vec::new(),
            by_tuple: BTreeMap::new(),
            ended: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            sent: BTreeMap::new(),
            serial: 0,
            peers: BTreeMap::new(),
            lately: [Vec::new(), Vec::new()],
            tap: Reassembly::default(),
            hosts: BTreeMap::new(),
            clients: Reassembly::default(),
            random,
            plan,
        };
        world.configure();
        world
    }

    /// Lets time pass: frames arrive, workers turn, what they send is checked and goes on.
    pub fn pass(&mut self, nanoseconds: u64) -> Checked {
        self.deliver_letters();
        let end = Time(self.now.0 + nanoseconds);
        loop {
            let due: Vec<(u64, u64)> = self
                .wire
                .range(..=(self.now.0, u64::MAX))
                .map(|(key, _)| *key)
                .take(48)
                .collect();
            for key in due {
                let Some((place, frame)) = self.wire.remove(&key) else {
                    continue;
                };
                match place {
                    Place::Director(port) => self.arrive(port, &frame),
                    Place::Clients => self.reach_client(&frame)?,
                    Place::Server(mac) => self.reach_server(mac, &frame)?,
                }
            }
            self.turn_some()?;
            match self.wire.keys().next() {
                Some(&(at, _)) if at <= end.0 => self.now = Time(at.max(self.now.0 + 1)),
                _ => break,
            }
        }
        self.now = end;
        self.turn_some()
    }

    /// Each worker, in any order, may or may not get its turn.
    fn turn_some(&mut self) -> Checked {
        for _ in 0..self.workers.len() {
            let number = self.random.below(self.workers.len());
            self.turn(number)?;
        }
        Ok(())
    }

    fn turn(&mut self, number: usize) -> Checked {
        let stateless = self.counters[number].event(Event::StatelessForwarded).get();
        self.workers[number].turn(self.now);
        if self.counters[number].event(Event::StatelessForwarded).get() != stateless {
            // A connection without an entry can get one, with another server, as soon as there is room.
            self.flows.iter_mut().for_each(|flow| flow.may_move = true);
        }
        self.read_answers()?;
        self.check_verdicts(number)?;
        let io = self.workers[number].io();
        let mut left: Vec<(usize, MemoryFrame)> = Vec::new();
        for port in 0..2 {
            left.extend(io.departures[port].drain(..).map(|frame| (port, frame)));
        }
        let punted = std::mem::take(&mut io.punted);
        punted.into_iter().for_each(|(_, frame)| io.free(frame));
        for (port, frame) in left {
            let bytes = frame.to_vec();
            self.workers[number].io().free(frame);
            for byte in &bytes {
                self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.depart(port, bytes)?;
        }
        Ok(())
    }
}
