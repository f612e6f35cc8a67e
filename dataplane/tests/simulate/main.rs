//! The whole packet machine under random traffic, against a naive model. Clients, real servers and one, two, five or sixteen workers are joined by a network that loses,
//! duplicates, delays and reorders; the configuration changes under way, and each worker takes it over at its own time.
//!
//! | weight | action |
//! |-------:|--------|
//! | 30 | a client opens a connection, or sends the first datagram (ports are few, so they are used again) |
//! | 60 | a client's timer fires: it sends, or sends again |
//! | 15 | a server's timer fires |
//! | 4  | a client resets |
//! | 6  | the configuration changes (see `change`) |
//! | 5  | a router returns an ICMP error about something that left the director |
//! | 3  | a packet that is not balanced: ARP, echo, strangers, rubbish |
//! | 1  | a pause: seconds, a minute, a quarter of an hour, hours |
//!
//! What must hold: no open connection is seen by two servers; every packet leaves with the right addresses, ports and numbers, and nothing else changed; streams
//! arrive whole; every frame ends in one verdict; no frame is lost from the pools; loads equal the tables; no tuple is used twice; in the end nothing is left.
//!
//! `ULVS_SEED=n` runs one seed, `ULVS_SEEDS=n` that many, `ULVS_STEPS=n` that many actions in each.

mod flows;
mod packet;
mod plan;
mod random;
mod world;

use plan::{INSIDE, OUTSIDE, SERVERS};
use ulvs_dataplane::steering::RssFields;
use world::{Setup, Tally, World};

/// Seeds for each setup of queues.
const SEEDS: u64 = 12;

/// Any number of workers, whose queues say nothing about the packets in them.
const ANY: Setup = Setup {
    workers: None,
    rss: None,
};

const ACTIONS: &[(usize, Action)] = &[
    (30, Action::Open),
    (60, Action::PokeClient),
    (15, Action::PokeServer),
    (4, Action::Reset),
    (6, Action::Change),
    (5, Action::Complain),
    (3, Action::Stray),
    (1, Action::Pause),
];

#[derive(Clone, Copy, Debug)]
enum Action {
    Open,
    PokeClient,
    PokeServer,
    Reset,
    Change,
    Complain,
    Stray,
    Pause,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

fn act(world: &mut World) -> Result<(), String> {
    let sum: usize = ACTIONS.iter().map(|(weight, _)| weight).sum();
    let mut dice = world.random.below(sum);
    let mut action = Action::Open;
    for (weight, own) in ACTIONS {
        if dice < *weight {
            action = *own;
            break;
        }
        dice -= weight;
    }
    match action {
        Action::Open => {
            let service = world.random.below(world.plan.services.len());
            let client = world.random.below(6);
            let port = 30_000 + world.random.below(4) as u16;
            world.open(service, client, port);
        }
        Action::PokeClient => {
            if let Some(flow) = world.some_flow() {
                world.poke_client(flow);
            }
        }
        Action::PokeServer => world.poke_server()?,
        Action::Reset => {
            if let Some(flow) = world.some_flow() {
                world.reset_client(flow);
            }
        }
        Action::Change => change(world),
        Action::Complain => world.complain(),
        Action::Stray => stray(world),
        Action::Pause => {
            let seconds = *world.random.pick(&[2, 4, 61, 121, 901, 7200]);
            world.pass(seconds * 1_000_000_000)?;
        }
    }
    let milliseconds = world.random.between(1, 60) as u64;
    world.pass(milliseconds * 1_000_000)
}

/// One change of the configuration.
fn change(world: &mut World) {
    let slot = world.random.below(world.plan.services.len() * SERVERS);
    match world.random.below(8) {
        0 | 1 => {
            let server = world.plan.server(slot);
            server.is_configured = !server.is_configured;
        }
        2 => {
            let weight = world.random.below(4) as u32;
            world.plan.server(slot).weight = weight;
        }
        3 => {
            let methods = world.plan.services[slot / SERVERS].methods;
            let method = *world.random.pick(methods);
            let service = &world.plan.services[slot / SERVERS];
            let rewrites = matches!(
                method,
                ulvs_dataplane::service::ForwardingMethod::Nat | ulvs_dataplane::service::ForwardingMethod::FullNat
            );
            let port = if rewrites {
                8000 + (slot / SERVERS) as u16
            } else {
                service.port
            };
            let server = world.plan.server(slot);
            (server.method, server.port) = (method, port);
        }
        4 => {
            let server = world.plan.server(slot);
            server.is_resolved = !server.is_resolved;
            world.plan.route_version += 1;
        }
        5 => {
            let service = &mut world.plan.services[slot / SERVERS];
            service.is_configured = !service.is_configured;
        }
        6 => {
            let free = world.free_slots();
            if !free.is_empty() {
                let slot = *world.random.pick(&free);
                world.replace_server(slot);
                world.plan.server(slot).is_configured = true;
                world.plan.route_version += 1;
            }
        }
        _ => {
            world.plan.is_gateway_resolved = !world.plan.is_gateway_resolved || world.random.chance(50);
            world.plan.server(slot).upper_threshold = [0, 3, 10][slot % 3];
            world.plan.route_version += 1;
        }
    }
    world.configure();
}

/// A frame that belongs to no connection, most of it bytes without sense.
fn stray(world: &mut World) {
    if world.setup.rss.is_some() {
        return;
    }
    let length = world.random.between(0, 200);
    let mut frame: Vec<u8> = (0..length).map(|_| world.random.next() as u8).collect();
    let port = *world.random.pick(&[OUTSIDE, INSIDE]);
    if frame.len() >= 14 {
        frame[..6].copy_from_slice(&plan::DIRECTOR[usize::from(port.0)]);
        let kind = *world.random.pick(&[[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]]);
        frame[12..14].copy_from_slice(&kind);
    }
    world.inject(port, frame);
}

/// Runs a seed and returns its trace and what came through; panics with what is needed to run it again.
fn run(seed: u64, steps: u64, setup: Setup) -> (u64, Tally) {
    let mut world = World::new(seed, setup);
    for step in 0..steps {
        let result = act(&mut world).and_then(|()| {
            if step % 16 == 0 {
                world.check_tables()?;
            }
            if step % 500 == 499 {
                world.check_pools()?;
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!(
                "{error}\nseed {seed}, step {step}; again: ULVS_SEED={seed} ULVS_STEPS={} cargo test --test simulate",
                step + 1
            );
        }
    }
    if let Err(error) = world.check_end() {
        panic!(
            "{error}\nseed {seed}, at the end of {steps} steps; again: ULVS_SEED={seed} ULVS_STEPS={steps} cargo test --test simulate"
        );
    }
    (world.trace, world.tally)
}

#[test]
fn random_traffic_agrees_with_the_model() {
    let steps = number("ULVS_STEPS").unwrap_or(1500);
    let seeds = match number("ULVS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("ULVS_SEEDS").unwrap_or(120),
    };
    let is_usual = number("ULVS_SEED").is_none() && number("ULVS_STEPS").is_none();
    let mut all = Tally::default();
    for seed in seeds {
        let (_, tally) = run(seed, steps, ANY);
        println!("seed {seed}: {tally:?}");
        all.complete += tally.complete;
        all.to_clients += tally.to_clients;
        all.to_servers += tally.to_servers;
        all.datagrams += tally.datagrams;
        all.stateless += tally.stateless;
        all.redirected += tally.redirected;
        all.reused += tally.reused;
        all.expired += tally.expired;
    }
    if is_usual {
        let counts = [
            all.complete,
            all.to_clients,
            all.to_servers,
            all.datagrams,
            all.stateless,
            all.redirected,
            all.reused,
            all.expired,
        ];
        assert!(counts.iter().all(|&count| count > 100), "too little happened: {all:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run(7, 400, ANY), run(7, 400, ANY));
    assert_ne!(run(7, 100, ANY).0, run(8, 100, ANY).0);
}

/// With cards that are told what to hash, all packets arrive at their owners, and every connection is served as ever.
#[test]
fn with_rss_nothing_is_redirected() {
    let tuple = [RssFields::Tuple, RssFields::Tuple];
    let one_side = [RssFields::Source, RssFields::Destination];
    for workers in [1, 2, 3, 16] {
        for rss in [tuple, one_side] {
            let setup = Setup {
                workers: Some(workers),
                rss: Some(rss),
            };
            let mut all = Tally::default();
            for seed in 1..=SEEDS {
                let (_, tally) = run(seed, 1000, setup);
                assert_eq!(tally.redirected, 0, "{setup:?}, seed {seed}");
                all.complete += tally.complete;
                all.to_clients += tally.to_clients;
                all.datagrams += tally.datagrams;
            }
            println!("{setup:?}: {all:?}");
            let least = all.complete.min(all.to_clients).min(all.datagrams);
            assert!(least > 50, "{setup:?}: too little happened: {all:?}");
        }
    }
}

/// Where queues say nothing, or cards hash what does not fit the services, everything is delivered all the same.
#[test]
fn without_fitting_rss_everything_is_redirected_to_its_owner() {
    let source_everywhere = Some([RssFields::Source, RssFields::Source]);
    for (workers, rss) in [
        (1, None),
        (2, None),
        (16, None),
        (2, source_everywhere),
        (16, source_everywhere),
    ] {
        let setup = Setup {
            workers: Some(workers),
            rss,
        };
        println!("{setup:?}");
        let mut complete = 0;
        let mut redirected = 0;
        for seed in 1..=SEEDS {
            let (_, tally) = run(seed, 1000, setup);
            complete += tally.complete;
            redirected += tally.redirected;
        }
        assert!(complete > 50, "{setup:?}: {complete} connections complete");
        assert_eq!(redirected > 0, workers > 1, "{setup:?}: {redirected} redirected");
    }
}
