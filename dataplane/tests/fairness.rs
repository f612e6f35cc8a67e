//! How far the shares of servers are from what they should be, with more and more workers. `--nocapture` shows the table.
//!
//! Clients come at random, and the hash of their tuple says to which worker. All workers pick at the same moment by the same counts, so that none knows what the
//! others are about to do: the worst that can happen with counts that all share.

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::scheduler::{self, Client, SchedulerKind, SchedulerState, compile_table};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Loads, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot,
    TunnelType, protocol,
};
use ulvs_dataplane::steering::{RssFields, Steering};
use ulvs_dataplane::time::Time;

const SERVERS: u32 = 10;
const WORKERS: [u8; 5] = [1, 2, 4, 8, 16];
const VIRTUAL: Address = Address::v4([192, 0, 2, 10]);

fn service(kind: SchedulerKind, weight: impl Fn(u32) -> u32) -> Service {
    let servers: Vec<Server> = (0..SERVERS)
        .map(|at| Server {
            slot: ServerSlot(at),
            address: Address::v4([10, 0, 0, at as u8]),
            port: 80,
            weight: weight(at),
            last_weight: weight(at),
            method: ForwardingMethod::DirectRouting,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    Service {
        slot: ServiceSlot(0),
        revision: 1,
        protocol: protocol::TCP,
        address: VIRTUAL,
        port: 80,
        scheduler: kind,
        scheduler_flags: SchedulerFlags {
            fallback: false,
            port: true,
        },
        scheduler_table: compile_table(kind, &servers).expect("ten servers fit"),
        servers,
        client_address: ClientAddress::Hidden,
        local_v4: Vec::new(),
        local_v6: Vec::new(),
        local_ports: (1, 0),
        one_packet: false,
        persistence: None,
        ownership: Ownership::default(),
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn client(&mut self) -> Key {
        let [a, b, c, d, e, f, ..] = self.next().to_be_bytes();
        Key {
            source: Address::v4([a | 1, b, c, d]),
            destination: VIRTUAL,
            source_port: u16::from_be_bytes([e, f]) | 1024,
            destination_port: 80,
            protocol: protocol::TCP,
        }
    }
}

/// How many of `connections` each server gets.
fn distribute(service: &Service, workers: u8, connections: usize) -> Vec<u32> {
    let loads = Loads::new(SERVERS as usize);
    let steering = Steering::new(workers, [RssFields::Tuple]);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut states: Vec<SchedulerState> = (0..workers)
        .map(|worker| {
            let mut state = SchedulerState::new(service);
            state.go_ahead(service, &loads, worker, workers);
            state
        })
        .collect();
    let mut got = vec![0; SERVERS as usize];
    let mut picked: Vec<Option<usize>> = vec![None; usize::from(workers)];
    let mut open = |picked: &mut Vec<Option<usize>>| {
        for place in picked.iter_mut().filter_map(Option::take) {
            loads
                .get(service.servers[place].slot)
                .open(&service.servers[place], true);
            got[place] += 1;
        }
    };
    for _ in 0..connections {
        let key = random.client();
        let worker = usize::from(steering.owner_by_tuple(&key));
        // It had its turn already: this moment is over.
        if picked[worker].is_some() {
            open(&mut picked);
        }
        let client = Client {
            address: key.source,
            port: key.source_port,
            called: key.destination,
            now: Time::default(),
        };
        picked[worker] = scheduler::pick(&mut states[worker], service, &loads, &client);
        assert!(picked[worker].is_some());
    }
    open(&mut picked);
    got
}

/// The largest distance of a server's connections from its part by weight: in connections, and as a share of that part.
fn error(service: &Service, got: &[u32]) -> (f64, f64) {
    let weights: u32 = service.servers.iter().map(|server| server.weight).sum();
    let all: u32 = got.iter().sum();
    let by_weight = service.scheduler != SchedulerKind::Rr && service.scheduler != SchedulerKind::Lc;
    let mut largest = (0f64, 0f64);
    for (server, got) in service.servers.iter().zip(got) {
        let part = if by_weight {
            f64::from(all) * f64::from(server.weight) / f64::from(weights)
        } else {
            f64::from(all) / f64::from(SERVERS)
        };
        let distance = (f64::from(*got) - part).abs();
        largest = (largest.0.max(distance), largest.1.max(distance / part));
    }
    largest
}

#[test]
fn more_workers_skew_no_scheduler() {
    let equal = |_| 1;
    let unequal = |at| 1 + at;
    for (name, kind, weighted) in [
        ("rr", SchedulerKind::Rr, false),
        ("wrr", SchedulerKind::Wrr, false),
        ("wrr", SchedulerKind::Wrr, true),
        ("lc", SchedulerKind::Lc, false),
        ("wlc", SchedulerKind::Wlc, false),
        ("wlc", SchedulerKind::Wlc, true),
        ("sh", SchedulerKind::Sh, true),
        ("mh", SchedulerKind::Mh, true),
    ] {
        let service = if weighted {
            service(kind, unequal)
        } else {
            service(kind, equal)
        };
        let weights = if weighted { "1 to 10" } else { "equal" };
        for connections in [1000, 100_000] {
            let errors = WORKERS.map(|workers| error(&service, &distribute(&service, workers, connections)));
            let cells = errors.map(|(_, share)| format!("{:.2} % |", 100.0 * share)).concat();
            println!("| {name} | {weights} | {connections} |{cells}");
            for ((distance, share), workers) in errors.into_iter().zip(WORKERS) {
                let workers = f64::from(workers);
                match kind {
                    // Each worker is at most a turn ahead with a server; weighted, at most a few.
                    SchedulerKind::Rr => assert!(distance <= workers, "{name}, {workers}: {distance}"),
                    SchedulerKind::Wrr => assert!(distance <= 3.0 * workers, "{name}, {workers}: {distance}"),
                    // All workers pick the same server at one moment, and then not again before it is level with the others.
                    SchedulerKind::Lc | SchedulerKind::Wlc => {
                        assert!(distance <= 2.0 * workers, "{name}, {workers}: {distance}");
                    }
                    // The client alone decides: workers make no difference at all.
                    _ => assert_eq!(share, errors[0].1, "{name}"),
                }
            }
        }
    }
}

/// One connection for each worker: they go to as many servers, not all to the first.
#[test]
fn workers_begin_their_rounds_at_different_places() {
    for kind in [SchedulerKind::Rr, SchedulerKind::Wrr] {
        for service in [service(kind, |_| 1), service(kind, |_| 3)] {
            let loads = Loads::new(SERVERS as usize);
            let mut first: Vec<usize> = (0..10)
                .map(|worker| {
                    let mut state = SchedulerState::new(&service);
                    state.go_ahead(&service, &loads, worker, 10);
                    let client = Client {
                        address: VIRTUAL,
                        port: 1,
                        called: VIRTUAL,
                        now: Time::default(),
                    };
                    scheduler::pick(&mut state, &service, &loads, &client).expect("a server")
                })
                .collect();
            assert_eq!(first[0], 0, "the first worker begins as the kernel does");
            first.sort_unstable();
            assert_eq!(first, (0..10).collect::<Vec<_>>(), "{kind}");
        }
    }
}
