//! Starts the workers: which thread polls which queues, pinned where, and what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tracing::{error, info, warn};
use ulvs_control::config::{Director, Idle, Port};
use ulvs_control::runtime::WorkerHandle;
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::conn::table::Table;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::io::Io;
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::Loads;
use ulvs_dataplane::steering::Steering;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::worker::{Mailbox, Mesh, Wake, Worker};

/// Turns without a frame before a worker goes to sleep.
const IDLE_TURNS: u32 = 256;
/// How long it sleeps at most: timers and the heartbeat go on. Well below the least `worker_timeout_ms`.
const SLEEP_MS: u32 = 10;

/// How long workers may take to finish.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The workers' threads.
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have ended; they must have been told to. One that is stuck is not waited for: it ends with the process.
    pub fn join(self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        for (number, thread) in self.0.into_iter().enumerate() {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                error!("worker {number} is stuck and has not finished; it is cut off");
            } else if thread.join().is_err() {
                error!("worker {number} had panicked");
            }
        }
    }
}

/// Starts a worker for each `Io`. They forward nothing until control sends them a configuration.
///
/// # Errors
/// A sentence that says what to do.
pub fn launch<I: Io + Send + 'static>(
    director: &Director,
    ports: &[Port],
    workers: Vec<(I, Wake)>,
    loads: &Arc<Loads>,
) -> Result<(Threads, Vec<WorkerHandle>)>
where
    I::Frame: Send + 'static,
{
    let cores = pick_cores(director)?;
    let count = workers.len();
    let hasher = KeyHasher::random();
    let steering = Steering::new(count as u8, ports.iter().map(|port| port.rss));
    let mesh = Mesh::of_sleepers(workers.iter().map(|(_, wake)| Wake::clone(wake)).collect());
    let started = Instant::now();
    let connections = director.connections.div_ceil(count);
    let table_mib = Table::memory_for(connections) >> 20;
    info!("{count} workers, {connections} connections each (about {table_mib} MiB)");
    let mut threads = Vec::new();
    let mut handles = Vec::new();
    for (number, (io, wake)) in workers.into_iter().enumerate() {
        let settings = Settings {
            worker: number as u8,
            steering,
            connections,
            service_limit: director.service_limit,
            server_limit: director.server_limit,
            ports: ports.len(),
            hasher,
        };
        let core = cores.get(number).copied();
        let counters = Arc::new(Counters::new(director.server_limit));
        let mailbox = Mailbox::default();
        let ended = Arc::new(AtomicBool::new(false));
        let start = Start {
            core,
            io,
            settings,
            counters: Arc::clone(&counters),
            loads: Arc::clone(loads),
            mailbox: mailbox.clone(),
            mesh: Arc::clone(&mesh),
            started,
            may_sleep: director.idle == Idle::Sleep,
        };
        let guard = EndGuard(Arc::clone(&ended));
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _guard = guard;
                run(start);
            })
            .with_context(|| format!("the thread of worker {number} could not be started"))?;
        threads.push(thread);
        handles.push(WorkerHandle {
            core: core.map(|core| core.id),
            mailbox,
            counters,
            capacity: connections,
            wake: Box::new(move || wake()),
            has_ended: Box::new(move || ended.load(Ordering::Acquire)),
        });
    }
    Ok((Threads(threads), handles))
}

fn pick_cores(director: &Director) -> Result<Vec<core_affinity::CoreId>> {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let find = |wanted: usize| available.iter().copied().find(|core| core.id == wanted);
    let mut cores = Vec::new();
    for &wanted in &director.cores {
        match find(wanted) {
            Some(core) => cores.push(core),
            None => bail!(
                "core {wanted} in [director] cores is not one that ulvsd may use; those are {:?} (see `taskset -cp $$` and `lscpu`)",
                available.iter().map(|core| core.id).collect::<Vec<_>>()
            ),
        }
    }
    Ok(cores)
}

/// Says that a worker's thread has ended, however it ended.
struct EndGuard(Arc<AtomicBool>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Start<I: Io> {
    core: Option<core_affinity::CoreId>,
    io: I,
    settings: Settings,
    counters: Arc<Counters>,
    loads: Arc<Loads>,
    mailbox: Mailbox,
    mesh: Arc<Mesh<I::Frame>>,
    started: Instant,
    may_sleep: bool,
}

/// The life of a worker's thread. Its tables are allocated here, so that they lie near its core.
fn run<I: Io>(start: Start<I>) {
    if let Some(core) = start.core
        && !core_affinity::set_for_current(core)
    {
        warn!(
            "worker {} could not be pinned to core {}; it runs unpinned",
            start.settings.worker, core.id
        );
    }
    let now = || Time(start.started.elapsed().as_nanos() as u64);
    let number = usize::from(start.settings.worker);
    let pipeline = Pipeline::new(start.settings, start.counters, start.loads, now());
    let mut io = start.io;
    io.begin();
    let mut worker = Worker::new(io, pipeline, number, start.mailbox, start.mesh);
    let mut idle_turns = 0;
    while !worker.is_stopping() {
        if worker.turn(now()) {
            idle_turns = 0;
            continue;
        }
        idle_turns += 1;
        if start.may_sleep && idle_turns > IDLE_TURNS {
            worker.sleep(SLEEP_MS);
        }
    }
}
