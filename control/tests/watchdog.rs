//! A director whose workers can be made to stand still: what it says and does then. The workers' ports are in memory, and their interface does not exist, so that
//! nothing outside is touched.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use tokio::sync::{Notify, watch};
use ulvs_control::api::views::{DirectorView, WorkerView};
use ulvs_control::config::{self, Config};
use ulvs_control::forwarding::{LayerThree, OpenPort};
use ulvs_control::runtime::{self, Health, Parts, Reload, RuntimeError, WorkerHandle};
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::io::Io;
use ulvs_dataplane::io::memory::{MemoryFrame, MemoryIo};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::Loads;
use ulvs_dataplane::steering::Steering;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::verdict::{DropReason, ReplyKind};
use ulvs_dataplane::worker::{Mailbox, Mesh, Worker};

/// A failure, not a measure: nothing here is expected to take nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VIP: [u8; 4] = [192, 0, 2, 10];
const WORKERS: usize = 2;

/// What the test does to a worker, and what comes of it.
#[derive(Default)]
struct Strings {
    stands_still: AtomicBool,
    ends: AtomicBool,
    arrivals: SegQueue<Vec<u8>>,
    departures: SegQueue<Vec<u8>>,
}

/// The life of a worker, in turns that can be held up.
fn work(mut worker: Worker<MemoryIo>, strings: &Strings, started: Instant) {
    while !worker.is_stopping() && !strings.ends.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
        if strings.stands_still.load(Ordering::Relaxed) {
            continue;
        }
        while let Some(bytes) = strings.arrivals.pop() {
            worker.io().arrivals[0].push_back(MemoryFrame::new(&bytes, 2048));
        }
        worker.turn(Time(started.elapsed().as_nanos() as u64));
        for frame in std::mem::take(&mut worker.io().departures[0]) {
            strings.departures.push(frame.to_vec());
            worker.io().free(frame);
        }
    }
}

struct Director {
    strings: Vec<Arc<Strings>>,
    counters: Vec<Arc<Counters>>,
    threads: Vec<JoinHandle<()>>,
    health: watch::Receiver<Health>,
    reload_wanted: Rc<Notify>,
    reloads: Rc<Cell<u32>>,
    socket: PathBuf,
}

fn configuration(folder: &Path, service_port: u16) -> Config {
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid());
    let group = group.ok().flatten().expect("the test's own group has a name").name;
    let text = format!(
        "[director]\nworkers = {WORKERS}\nworker_timeout_ms = 1000\ncontrol_socket = \"{}\"\ncontrol_group = \"{group}\"\n\
         [[port]]\ninterface = \"ulvs-absent0\"\n\
         [[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.10:{service_port}\"\nmethod = \"nat\"\n",
        folder.join("s").display()
    );
    config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

impl Director {
    fn new(folder: &Path) -> (Director, Parts) {
        let config = configuration(folder, 53);
        let started = Instant::now();
        let mesh = Mesh::new(WORKERS);
        let loads = Arc::new(Loads::new(config.director.server_limit));
        let hasher = KeyHasher::random();
        let mut director = Director {
            strings: Vec::new(),
            counters: Vec::new(),
            threads: Vec::new(),
            health: watch::Sender::new(Health::default()).subscribe(),
            reload_wanted: Rc::default(),
            reloads: Rc::default(),
            socket: config.director.control_socket.clone(),
        };
        let mut handles = Vec::new();
        for number in 0..WORKERS {
            let settings = Settings {
                worker: number as u8,
                steering: Steering::new(WORKERS as u8, []),
                connections: 1024,
                service_limit: config.director.service_limit,
                server_limit: config.director.server_limit,
                ports: 1,
                hasher,
            };
            let counters = Arc::new(Counters::new(config.director.server_limit));
            let mailbox = Mailbox::default();
            let pipeline = Pipeline::new(settings, counters.clone(), loads.clone(), Time(0));
            let io = MemoryIo::new(1, 500, 2048);
            let worker = Worker::new(io, pipeline, number, mailbox.clone(), mesh.clone());
            let strings = Arc::new(Strings::default());
            let own = Arc::clone(&strings);
            director
                .threads
                .push(std::thread::spawn(move || work(worker, &own, started)));
            let own = Arc::clone(&strings);
            handles.push(WorkerHandle {
                core: None,
                mailbox,
                counters: Arc::clone(&counters),
                capacity: 1024,
                wake: Box::new(|| ()),
                has_ended: Box::new(move || own.ends.load(Ordering::Relaxed)),
            });
            director.strings.push(strings);
            director.counters.push(counters);
        }
        let health = watch::Sender::new(Health::default());
        director.health = health.subscribe();
        let reloads = Rc::clone(&director.reloads);
        let folder = folder.to_owned();
        let parts = Parts {
            ports: vec![port()],
            workers: handles,
            loads,
            capture: None,
            reload: Reload {
                wanted: Rc::clone(&director.reload_wanted),
                load: Box::new(move || {
                    reloads.set(reloads.get() + 1);
                    Ok(configuration(&folder, 5353))
                }),
            },
            health,
            config,
        };
        (director, parts)
    }

    /// Waits until the director has such a health.
    async fn until(&mut self, what: &str, is_so: impl FnMut(&Health) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.health.wait_for(is_so)).await;
        waited
            .unwrap_or_else(|_| panic!("never: {what}"))
            .expect("the director runs");
    }

    /// Asks worker 0 by ARP who has the virtual address.
    fn ask(&self) {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2, 0, 0, 0, 0, 9, 192, 0, 2, 254]);
        frame.extend([0; 6]);
        frame.extend(VIP);
        self.strings[0].arrivals.push(frame);
    }

    fn answered(&self) -> u64 {
        self.counters[0].reply(ReplyKind::Arp).get()
    }

    fn refused(&self) -> u64 {
        self.counters[0].dropped(DropReason::GivenUp).get()
    }

    /// Announcements of the virtual address since the last call.
    fn announcements(&self) -> usize {
        let frames = std::iter::from_fn(|| self.strings[0].departures.pop());
        // ARP whose sender and target are both the address.
        frames
            .filter(|frame| frame[12..14] == [8, 6] && frame[28..32] == VIP && frame[38..42] == VIP)
            .count()
    }

    /// What `ulvs status` and `ulvs workers` show. The client waits for its answers, the director needs this thread to give them.
    async fn seen(&self) -> (DirectorView, Vec<WorkerView>) {
        let socket = self.socket.clone();
        let ask = tokio::task::spawn_blocking(move || {
            let mut client = ulvs_control::api::Client::connect(&socket, "test").expect("the director listens");
            (
                client.director().expect("an answer"),
                client.workers().expect("an answer"),
            )
        });
        ask.await.expect("no panic")
    }
}

fn port() -> OpenPort {
    OpenPort {
        name: "memory".to_owned(),
        interface: "ulvs-absent0".to_owned(),
        ifindex: i32::MAX as u32,
        mac: MAC,
        queues: WORKERS as u32,
        mode: "memory".to_owned(),
        has_partial_checksums: false,
        interfaces: vec![LayerThree {
            vlan: None,
            interface: "ulvs-absent0".to_owned(),
        }],
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn scenario(director: &mut Director) {
    eventually("the address is announced", || director.announcements() > 0).await;
    director.ask();
    eventually("ARP is answered", || director.answered() == 1).await;

    director.strings[1].stands_still.store(true, Ordering::Relaxed);
    director.until("worker 1 is stuck", |health| health.stuck == [1]).await;
    let given_up = |director: &Director| {
        director.ask();
        director.refused() > 0
    };
    eventually("worker 0 keeps the address to itself", || given_up(director)).await;
    let (view, workers) = director.seen().await;
    assert_eq!(view.given_up.as_deref(), Some("worker 1 is stuck"));
    assert_eq!(workers[0].stuck_milliseconds, None);
    assert!(
        workers[1].stuck_milliseconds.is_some_and(|time| time > 500),
        "{workers:?}"
    );
    // A change is made by all workers or none.
    let generation = view.generation;
    director.reload_wanted.notify_one();
    eventually("the reload is tried", || director.reloads.get() == 1).await;
    assert_eq!(director.seen().await.0.generation, generation);
    assert_eq!(
        workers[1].generation,
        generation - 1,
        "the stuck worker has not seen the last change"
    );

    let (answered, _) = (director.answered(), director.announcements());
    director.strings[1].stands_still.store(false, Ordering::Relaxed);
    director.until("all come round", Health::holds_addresses).await;
    eventually("the address is announced again", || director.announcements() > 0).await;
    director.ask();
    eventually("ARP is answered again", || director.answered() > answered).await;
    let (view, workers) = director.seen().await;
    assert_eq!((view.given_up, workers[1].stuck_milliseconds), (None, None));
    eventually("all have adopted the newest configuration", || {
        director
            .counters
            .iter()
            .all(|own| own.generation.get() == view.generation)
    })
    .await;

    director.strings[1].ends.store(true, Ordering::Relaxed);
}

#[test]
fn a_stuck_worker_is_named_and_the_addresses_are_given_up_until_it_comes_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut director, parts) = Director::new(folder.path());
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (result, ()) = tokio.block_on(async {
        let run = runtime::run(parts, std::future::pending(), || ());
        tokio::join!(run, scenario(&mut director))
    });
    // The last that the scenario did was to end a worker.
    assert!(matches!(result, Err(RuntimeError::WorkerStopped(1))), "{result:?}");
    assert_eq!(director.health.borrow().ended, Some(1));
    for thread in director.threads {
        thread.join().expect("no panic");
    }
}
