//! Changes in a director whose workers are played by the test: no network card, no kernel.

use std::cell::Cell;
use std::net::SocketAddr;

use futures_util::FutureExt;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::worker::{FromWorker, Mailbox, ToWorker};

use super::super::*;
use crate::api::Backend;
use crate::api::changes::{Change, ServerKey, ServerSettings, ServiceKey, ServiceSettings};
use crate::api::protocol::ErrorCode;
use crate::api::views::{Method, Origin, Protocol, ServiceView};
use crate::capture::BackendCounter;
use crate::config;

const FILE: &str = r#"
[[port]]
interface = "eth0"
[[service]]
protocol = "tcp"
address = "192.0.2.1:80"
method = "nat"
scheduler = "rr"
[[service.server]]
address = "10.0.0.1:80"
"#;

/// A filter that says no when it is told to.
#[derive(Default)]
struct Filter {
    refuses: Rc<Cell<bool>>,
    addresses: Rc<RefCell<Vec<String>>>,
}

impl Capture for Filter {
    fn update(&mut self, rules: &CaptureRules) -> Result<(), String> {
        if self.refuses.get() {
            return Err("the filter is full".to_owned());
        }
        let mut addresses: Vec<_> = rules.addresses.keys().map(ToString::to_string).collect();
        addresses.sort();
        *self.addresses.borrow_mut() = addresses;
        Ok(())
    }

    fn counters(&self) -> Vec<BackendCounter> {
        Vec::new()
    }
}

struct Lab {
    shared: Shared,
    workers: Vec<(Mailbox, Arc<Counters>)>,
    refuses: Rc<Cell<bool>>,
    addresses: Rc<RefCell<Vec<String>>>,
}

impl Lab {
    fn new(workers: usize) -> Lab {
        Lab::of(parse(FILE), workers)
    }

    fn of(config: Config, workers: usize) -> Lab {
        let limit = config.director.server_limit;
        let workers: Vec<_> = (0..workers)
            .map(|_| (Mailbox::default(), Arc::new(Counters::new(limit))))
            .collect();
        let handle = |(mailbox, counters): &(Mailbox, Arc<Counters>)| WorkerHandle {
            core: None,
            mailbox: mailbox.clone(),
            counters: Arc::clone(counters),
            capacity: 1024,
            wake: Box::new(|| ()),
            has_ended: Box::new(|| false),
        };
        let filter = Filter::default();
        let (refuses, addresses) = (Rc::clone(&filter.refuses), Rc::clone(&filter.addresses));
        let parts = Parts {
            health: tokio::sync::watch::Sender::new(Health::default()),
            ports: Vec::new(),
            workers: workers.iter().map(handle).collect(),
            loads: Arc::new(Loads::new(limit)),
            capture: Some(Box::new(filter)),
            reload: Reload {
                wanted: Rc::default(),
                load: Box::new(|| Err(Vec::new())),
            },
            config,
        };
        let (mut runtime, _) = Runtime::new(parts).unwrap();
        runtime.kernel_changed().unwrap();
        Lab {
            shared: Rc::new(RefCell::new(runtime)),
            workers,
            refuses,
            addresses,
        }
    }

    fn backend(&self) -> api::RuntimeBackend {
        api::RuntimeBackend(Rc::clone(&self.shared))
    }

    /// One worker reads its mail.
    fn adopt(&self, worker: usize) {
        let mailbox = &self.workers[worker].0;
        while let Some(message) = mailbox.to_worker.pop() {
            if let ToWorker::Adopt(snapshot) = message {
                mailbox
                    .from_worker
                    .push(FromWorker::Adopted(snapshot.generation, None))
                    .unwrap();
            }
        }
        self.shared.borrow_mut().read_mailboxes().unwrap();
    }

    /// Makes changes while all workers do as they should; returns what was not made.
    fn change(&self, changes: Vec<Change>, atomic: bool) -> Vec<String> {
        let backend = self.backend();
        let mut asked = Box::pin(backend.change(changes, atomic));
        in_runtime(async {
            assert!(futures_util::poll!(&mut asked).is_pending(), "no worker has it yet");
            (0..self.workers.len()).for_each(|worker| self.adopt(worker));
            let outcome = asked.await.unwrap();
            assert_eq!(outcome.generation, self.shared.borrow().snapshot.generation);
            outcome.failures.into_iter().map(|failure| failure.message).collect()
        })
    }

    fn services(&self) -> Vec<ServiceView> {
        self.backend().services(None).now_or_never().unwrap().unwrap()
    }

    fn reload(&self, text: &str) {
        let config = parse(text);
        let load: Load = Box::new(move || Ok(config.clone()));
        self.shared.borrow_mut().reload(&load);
        (0..self.workers.len()).for_each(|worker| self.adopt(worker));
    }
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn parse(text: &str) -> Config {
    config::parse(text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn tcp(endpoint: &str) -> ServiceKey {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: endpoint.ip(),
        port: endpoint.port(),
    }
}

fn add_service(service: ServiceKey) -> Change {
    Change::AddService {
        service,
        settings: ServiceSettings {
            scheduler: "rr".to_owned(),
            scheduler_flags: Vec::new(),
            persistence: None,
            persistence_engine: None,
            one_packet: false,
        },
    }
}

fn server(service: ServiceKey, endpoint: &str, weight: u32, adds: bool) -> Change {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    let server = ServerKey {
        address: endpoint.ip(),
        port: endpoint.port(),
    };
    let settings = ServerSettings {
        method: Method::Nat,
        tunnel: None,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    if adds {
        Change::AddServer {
            service,
            server,
            settings,
        }
    } else {
        Change::EditServer {
            service,
            server,
            settings,
        }
    }
}

#[test]
fn the_answer_comes_when_all_workers_have_it() {
    let lab = Lab::new(2);
    let backend = lab.backend();
    let new = tcp("192.0.2.9:80");
    let before = lab.shared.borrow().snapshot.generation;
    let mut asked = Box::pin(backend.change(vec![add_service(new), server(new, "10.0.0.2:80", 1, true)], false));
    in_runtime(async {
        assert!(futures_util::poll!(&mut asked).is_pending());
        lab.adopt(1);
        assert!(
            futures_util::poll!(&mut asked).is_pending(),
            "worker 0 does not have it"
        );
        lab.adopt(0);
        let outcome = asked.await.unwrap();
        // Both changes are one generation.
        assert_eq!((outcome.generation, outcome.failures), (before + 1, Vec::new()));
    });
    assert_eq!(lab.services().len(), 2);
    // The filter has the new address, and servers are asked for.
    assert_eq!(*lab.addresses.borrow(), ["192.0.2.1", "192.0.2.9"]);
    let wanted = Rc::clone(&lab.shared.borrow().kernel_wanted);
    assert!(wanted.notified().now_or_never().is_some());
}

#[test]
fn what_the_filter_refuses_changes_nothing() {
    let lab = Lab::new(1);
    let before = lab.shared.borrow().snapshot.generation;
    lab.refuses.set(true);
    let backend = lab.backend();
    let refusal = in_runtime(backend.change(vec![add_service(tcp("192.0.2.9:80"))], false)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NoRoom);
    assert!(refusal.message.contains("the filter is full"), "{refusal}");
    assert_eq!(
        (lab.services().len(), lab.shared.borrow().snapshot.generation),
        (1, before)
    );
    assert_eq!(lab.shared.borrow().config, lab.shared.borrow().file);
    // And the way is free for the next one.
    lab.refuses.set(false);
    assert_eq!(
        lab.change(vec![add_service(tcp("192.0.2.9:80"))], true),
        Vec::<String>::new()
    );
    assert_eq!(lab.services().len(), 2);
}

#[test]
fn counters_are_zeroed_by_offset() {
    let lab = Lab::new(2);
    let slot = lab.shared.borrow().services[0].servers[0].slot;
    let count = |connections| {
        for (_, counters) in &lab.workers {
            counters.server(slot).connections.add(connections);
        }
    };
    let shown = || {
        (
            lab.services()[0].totals.connections,
            lab.services()[0].servers[0].totals.connections,
        )
    };
    let total = || {
        lab.backend()
            .totals()
            .now_or_never()
            .unwrap()
            .unwrap()
            .total()
            .connections
    };
    count(5);
    assert_eq!((shown(), total()), ((10, 10), 10));
    let zero = |service| {
        let outcome = in_runtime(async {
            (0..2).for_each(|worker| lab.adopt(worker));
            let backend = lab.backend();
            let mut asked = Box::pin(backend.change(vec![Change::Zero { service }], false));
            assert!(futures_util::poll!(&mut asked).is_pending());
            lab.adopt(0);
            asked.await.unwrap()
        });
        assert_eq!(outcome.failures, []);
    };
    zero(Some(tcp("192.0.2.1:80")));
    // The whole is only zeroed with -Z alone, as in the kernel.
    assert_eq!((shown(), total()), ((0, 0), 10));
    count(1);
    assert_eq!((shown(), total()), ((2, 2), 12));
    zero(None);
    assert_eq!((shown(), total()), ((0, 0), 0));
    assert_eq!(
        lab.workers[0].1.server(slot).connections.get(),
        6,
        "workers' counters go on"
    );
}

#[test]
fn rates_are_sampled_and_zeroed() {
    let lab = Lab::new(1);
    let slot = lab.shared.borrow().services[0].servers[0].slot;
    let rate = || {
        (
            lab.services()[0].rates.unwrap().connections,
            lab.services()[0].servers[0].rates.unwrap().connections,
        )
    };
    lab.shared.borrow_mut().sample_rates();
    lab.workers[0].1.server(slot).connections.add(80);
    lab.shared.borrow_mut().sample_rates();
    assert_eq!(rate(), (10, 10));
    // A server that comes is counted from then on.
    lab.change(vec![server(tcp("192.0.2.1:80"), "10.0.0.2:80", 1, true)], false);
    let new = lab.shared.borrow().services[0].servers[0].slot;
    lab.workers[0].1.server(new).connections.add(8);
    lab.shared.borrow_mut().sample_rates();
    assert_eq!(lab.services()[0].servers[0].rates.unwrap().connections, 1);
    lab.shared
        .borrow_mut()
        .apply(&[Change::Zero { service: None }], false)
        .unwrap();
    assert_eq!(rate(), (0, 0));
}

#[test]
fn a_reload_keeps_what_the_command_line_made_and_edited() {
    let lab = Lab::new(1);
    let (web, own) = (tcp("192.0.2.1:80"), tcp("192.0.2.9:80"));
    let changes = vec![
        server(web, "10.0.0.1:80", 0, false),
        server(web, "10.0.0.2:80", 1, true),
        add_service(own),
    ];
    assert_eq!(lab.change(changes, true), Vec::<String>::new());
    let shown = || -> Vec<(u32, Origin)> {
        let services = lab.services();
        services
            .iter()
            .flat_map(|own| &own.servers)
            .map(|own| (own.weight, own.origin))
            .collect()
    };
    assert_eq!(shown(), [(1, Origin::CommandLine), (0, Origin::Edited)]);
    lab.reload(FILE);
    assert_eq!(shown(), [(1, Origin::CommandLine), (0, Origin::Edited)]);
    assert_eq!(lab.services().len(), 2);
    lab.reload(&FILE.replace("10.0.0.1:80\"", "10.0.0.1:80\"\nweight = 5"));
    assert_eq!(shown(), [(1, Origin::CommandLine), (5, Origin::File)]);
    assert_eq!(lab.change(vec![Change::Flush], false), Vec::<String>::new());
    assert_eq!(lab.services(), []);
    lab.reload(FILE);
    assert_eq!(shown(), [(1, Origin::File)]);
    // A file that does not go together with what the command line made is refused as a whole.
    assert_eq!(lab.change(vec![add_service(own)], false), Vec::<String>::new());
    lab.reload(&FILE.replace("10.0.0.1:80", "192.0.2.9:80"));
    assert_eq!(shown(), [(1, Origin::File)]);
}

/// A restore of 10,000 services with two servers each, in the parts that `ipvsadm -R` sends. Prints how long the director took; what it may
/// take is for a measurement to say (`hack/decisions/0020-file-and-command-line.md`).
#[test]
fn ten_thousand_services_can_be_restored() {
    const PART: usize = 5000;
    let lab = Lab::of(parse(&FILE[..FILE.find("[[service]]").unwrap()]), 2);
    let mut changes = Vec::new();
    for number in 0..10_000_u32 {
        let host = format!("{}.{}", number / 250, 1 + number % 250);
        let service = tcp(&format!("198.18.{host}:80"));
        changes.push(add_service(service));
        changes.push(server(service, &format!("10.1.{host}:80"), 1, true));
        changes.push(server(service, &format!("10.2.{host}:80"), 1, true));
    }
    let start = Instant::now();
    for part in changes.chunks(PART) {
        assert_eq!(lab.change(part.to_vec(), false), Vec::<String>::new());
    }
    println!("10000 services, 20000 servers: {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(
        lab.change(vec![add_service(tcp("192.0.2.7:80"))], false),
        Vec::<String>::new()
    );
    println!("one more: {:?}", start.elapsed());
    assert_eq!(lab.services().len(), 10_001);
}
