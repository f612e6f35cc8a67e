//! The one place where everything meets. READ FIRST: the way of a change, top to bottom.
//!
//! ```text
//! configuration ──▶ compile ──▶ services ──┐
//! kernel: links, addresses ──▶ interfaces ─┼─▶ Snapshot{generation} ──▶ every worker ──▶ all have adopted it ──▶ the old one is freed
//! kernel: routes, neighbours ─▶ routes ────┘         └─▶ capture rules ──▶ the backend's filter
//! workers: "who has this next hop?" ──▶ the kernel is asked ──▶ it tells of a neighbour ──▶ routes (above)
//! ```
//!
//! All of it runs on one thread; workers are only ever spoken to through their mailboxes, and none of them is waited for.

mod announce;
mod api;
mod change;
mod health;
mod rates;
mod reload;
mod watch;
mod watchdog;
mod workers;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch as channel};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::kernel::KernelSide;
use ulvs_dataplane::service::{Loads, ServerSlot, SharedService};
use ulvs_dataplane::snapshot::{Interfaces, OwnedAddress, Routes, Services, Snapshot};

use crate::api::views::Traffic;
use crate::api::{BindError, Server};
use crate::capture::{self, Capture, CaptureRules};
use crate::compile::{self, CompileError, Compiler};
use crate::config::Config;
use crate::forwarding::{self, OpenPort, RouteCompiler};
use crate::neighbor::{self, ForwardingFacts, KernelView, REFRESH_PERIOD_MS, WatchError, Watcher};

pub use health::Health;
pub use reload::Load;
pub use workers::WorkerHandle;

/// How often the workers' mailboxes are read. A first packet to an unknown neighbour waits this much longer.
const MAILBOX_PERIOD: Duration = Duration::from_millis(2);
/// How often the backend looks after its ports.
const BACKEND_WATCH_PERIOD: Duration = Duration::from_secs(1);
/// How long to wait after the kernel could not be read.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// What the rim has opened and started.
pub struct Parts {
    /// The configuration to run.
    pub config: Config,
    /// The ports.
    pub ports: Vec<OpenPort>,
    /// The workers.
    pub workers: Vec<WorkerHandle>,
    /// The loads that the workers share.
    pub loads: Arc<Loads>,
    /// How the backend tells the kernel's traffic from the director's, and what it counts.
    pub capture: Option<Box<dyn Capture>>,
    /// How to come to another configuration while it runs.
    pub reload: Reload,
    /// Tells its subscribers whether the director can serve its virtual addresses.
    pub health: channel::Sender<Health>,
}

/// Another configuration for the running director.
pub struct Reload {
    /// Notified when one is wanted.
    pub wanted: Rc<Notify>,
    /// Reads it.
    pub load: Load,
}

/// Why the director cannot run, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The kernel's routes and neighbours.
    #[error("cannot follow the kernel's routes and neighbours: {0}")]
    Watch(#[from] WatchError),
    /// The filter.
    #[error("cannot tell the filter which traffic is the director's: {0}")]
    Capture(String),
    /// A worker has ended.
    #[error(
        "worker {0} has ended; this is a defect, its message stands above. The director ends rather than drop a share of the traffic"
    )]
    WorkerStopped(usize),
}

/// The running director.
struct Runtime {
    /// In force: the file, and what the command line changed since.
    config: Config,
    /// As the file was when it was last read.
    file: Config,
    ports: Vec<OpenPort>,
    compiler: Compiler,
    services: Vec<SharedService>,
    owned: BTreeMap<Address, OwnedAddress>,
    loads: Arc<Loads>,
    view: KernelView,
    facts: ForwardingFacts,
    route_compiler: RouteCompiler,
    snapshot: Arc<Snapshot>,
    capture: Option<Box<dyn Capture>>,
    rules: CaptureRules,
    workers: workers::Workers,
    announcements: announce::Announcements,
    settling: Option<reload::Settling>,
    /// What servers' counters stood at when their servers came, where that was not 0.
    counted_before: BTreeMap<ServerSlot, Traffic>,
    /// By worker: what all counters together stood at when they were zeroed; empty if they never were.
    totals_before: Vec<Traffic>,
    estimators: rates::Estimators,
    waiting: change::Waiting,
    /// Notified when the kernel should resolve new servers.
    kernel_wanted: Rc<Notify>,
    started: Instant,
    watchdog: watchdog::Watchdog,
    health: channel::Sender<Health>,
}

type Shared = Rc<RefCell<Runtime>>;

/// Runs the director until `shutdown` is ready. `ready` is called once: when all workers forward by the first configuration.
///
/// # Errors
/// A sentence. Whatever happens, workers have been told to stop and the kernel's neighbour entries that were ours are gone.
pub async fn run(parts: Parts, shutdown: impl Future<Output = ()>, ready: impl FnOnce()) -> Result<(), RuntimeError> {
    let director = &parts.config.director;
    let server = Server::bind(&director.control_socket, Some(&director.control_group)).await?;
    let mut watcher = Watcher::open()?;
    let (mut runtime, reload) = Runtime::new(parts)?;
    for change in watcher.next().await? {
        runtime.view.apply(change);
    }
    // The first snapshot: the services, and all that the kernel said.
    runtime.kernel_changed()?;
    runtime.announce_all();
    let shared: Shared = Rc::new(RefCell::new(runtime));
    let (stop_api, api_stopped) = tokio::sync::oneshot::channel::<()>();
    let backend = api::RuntimeBackend(Rc::clone(&shared));
    let api = server.run(&backend, async {
        let _ = api_stopped.await;
    });
    let result = {
        let serve = follow(&shared, &mut watcher, &reload, ready);
        tokio::pin!(serve, api, shutdown);
        let result = tokio::select! {
            result = &mut serve => result,
            () = &mut api => Ok(()),
            () = shutdown => Ok(()),
        };
        // In order: nobody asks any more, then nothing is taken from the kernel any more, then the workers end.
        drop(stop_api);
        result
    };
    let interfaces = shared.borrow_mut().stop();
    if let Err(error) = neighbor::release_all(&interfaces).await {
        warn!("neighbour entries of the director may be left in the kernel: {error}");
    }
    result
}

/// Follows the kernel and the workers for ever.
async fn follow(
    shared: &Shared,
    watcher: &mut Watcher,
    reload: &Reload,
    ready: impl FnOnce(),
) -> Result<(), RuntimeError> {
    let mut mailboxes = interval(MAILBOX_PERIOD);
    mailboxes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = interval(shared.borrow().watchdog.period());
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refresh = interval(Duration::from_millis(REFRESH_PERIOD_MS));
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sample = interval(rates::SAMPLE_PERIOD);
    sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let kernel_wanted = Rc::clone(&shared.borrow().kernel_wanted);
    let mut watch = interval(BACKEND_WATCH_PERIOD);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            changes = watcher.next() => match changes {
                Ok(changes) => {
                    let mut runtime = shared.borrow_mut();
                    let mut differs = false;
                    for change in changes {
                        differs |= runtime.view.apply(change);
                    }
                    if differs {
                        runtime.kernel_changed()?;
                    }
                }
                Err(error) => {
                    warn!("the kernel's routes and neighbours could not be read ({error}); forwarding goes on with the last known ones");
                    sleep(WATCH_PAUSE).await;
                }
            },
            _ = beats.tick() => shared.borrow_mut().watch_workers()?,
            _ = refresh.tick() => ask_kernel(shared).await,
            () = kernel_wanted.notified() => ask_kernel(shared).await,
            _ = sample.tick() => shared.borrow_mut().sample_rates(),
            _ = watch.tick() => shared.borrow_mut().capture.iter_mut().for_each(|capture| capture.watch()),
            () = reload.wanted.notified() => {
                shared.borrow_mut().reload(&reload.load);
                // New servers are resolved before their first packet.
                ask_kernel(shared).await;
            }
            _ = mailboxes.tick() => {
                let unresolved = shared.borrow_mut().read_mailboxes()?;
                if ready.is_some() && shared.borrow().workers.all_adopted(1) {
                    ready.take().into_iter().for_each(|ready| ready());
                }
                for (ifindex, address) in unresolved {
                    resolve(shared, ifindex, address).await;
                }
            }
        }
    }
}

/// Has the kernel keep the servers and gateways resolved.
async fn ask_kernel(shared: &Shared) {
    let (view, interfaces, wanted) = {
        let runtime = shared.borrow();
        (
            runtime.view.clone(),
            runtime.kernel_interfaces(),
            runtime.facts.to_resolve.clone(),
        )
    };
    report_refusals(neighbor::reconcile(&view, &interfaces, &wanted).await);
}

async fn resolve(shared: &Shared, ifindex: u32, address: Address) {
    let view = shared.borrow().view.clone();
    report_refusals(neighbor::resolve_once(&view, ifindex, address).await);
}

fn report_refusals(result: Result<Vec<neighbor::AskError>, WatchError>) {
    match result {
        Ok(refusals) => refusals.iter().for_each(|refusal| warn!("{refusal}")),
        Err(error) => warn!("the kernel could not be asked to resolve next hops: {error}"),
    }
}

impl Runtime {
    fn new(parts: Parts) -> Result<(Runtime, Reload), RuntimeError> {
        let mut compiler = Compiler::new(&parts.config.director, Arc::clone(&parts.loads));
        let services = compiler.compile(&parts.config)?;
        let owned = compile::owned_addresses(services.iter());
        let snapshot = Snapshot {
            services: Arc::new(Services::new(services.iter().cloned())),
            timeouts: compile::timeouts(&parts.config.timeouts),
            tunables: parts.config.ipvs,
            ..Snapshot::default()
        };
        let watchdog = watchdog::Watchdog::new(parts.config.director.worker_timeout, parts.workers.len());
        let runtime = Runtime {
            compiler,
            services,
            owned,
            loads: parts.loads,
            view: KernelView::new(),
            facts: ForwardingFacts::default(),
            route_compiler: RouteCompiler::default(),
            snapshot: Arc::new(snapshot),
            capture: parts.capture,
            rules: CaptureRules::default(),
            workers: workers::Workers::new(parts.workers),
            announcements: announce::Announcements::default(),
            settling: None,
            watchdog,
            health: parts.health,
            counted_before: BTreeMap::new(),
            totals_before: Vec::new(),
            estimators: rates::Estimators::default(),
            waiting: change::Waiting::default(),
            kernel_wanted: Rc::default(),
            started: Instant::now(),
            ports: parts.ports,
            file: parts.config.clone(),
            config: parts.config,
        };
        Ok((runtime, parts.reload))
    }

    fn kernel_interfaces(&self) -> BTreeSet<u32> {
        forwarding::kernel_interfaces(&forwarding::neighbour_ports(&self.ports, &self.view))
    }

    /// What the kernel says about the ways to the servers.
    fn find_facts(&self) -> ForwardingFacts {
        let ports = forwarding::neighbour_ports(&self.ports, &self.view);
        let servers = self.services.iter().flat_map(|service| &service.servers);
        let wanted: BTreeSet<Address> = servers.map(|server| server.address).collect();
        neighbor::forwarding_facts(&self.view, &ports, &wanted.into_iter().collect::<Vec<_>>())
    }

    /// Links, addresses, routes or neighbours are others than before.
    fn kernel_changed(&mut self) -> Result<(), RuntimeError> {
        let facts = self.find_facts();
        let interfaces = forwarding::interfaces(&self.ports, &self.view);
        let is_first = self.snapshot.interfaces.all().is_empty();
        let same_interfaces = !is_first && self.snapshot.interfaces.all() == interfaces;
        let same_kernel = self.kernel_side() == self.snapshot.kernel;
        if !(same_interfaces && facts == self.facts && same_kernel) {
            let (interfaces, routes) = self.compile_forwarding(facts, !same_interfaces);
            self.publish(Snapshot {
                interfaces,
                routes,
                ..(*self.snapshot).clone()
            });
        }
        self.update_capture()
    }

    /// Interfaces (those in force, unless they or the owned addresses are others now) and routes.
    fn compile_forwarding(&mut self, facts: ForwardingFacts, new_interfaces: bool) -> (Arc<Interfaces>, Arc<Routes>) {
        self.explain_unreachable(&facts);
        let interfaces = if new_interfaces {
            let partial = self.ports.iter().map(|port| port.has_partial_checksums).collect();
            let owned = self.owned.iter().map(|(address, kind)| (*address, *kind));
            let interfaces = forwarding::interfaces(&self.ports, &self.view);
            Arc::new(Interfaces::new(interfaces, owned, partial))
        } else {
            Arc::clone(&self.snapshot.interfaces)
        };
        let ports = forwarding::neighbour_ports(&self.ports, &self.view);
        let routes = self.route_compiler.compile(&facts, interfaces.all(), &ports);
        self.facts = facts;
        (interfaces, Arc::new(routes))
    }

    /// Says which servers cannot be reached, once for each change.
    fn explain_unreachable(&self, facts: &ForwardingFacts) {
        for (address, destination) in &facts.destinations {
            let before = self.facts.destinations.get(address);
            match destination {
                _ if before == Some(destination) => {}
                neighbor::Destination::Unreachable(reason) => warn!("server {address} cannot be reached: {reason}"),
                neighbor::Destination::Local => {
                    warn!(
                        "server {address} is an address of the director itself; packets for it are dropped (no_route)"
                    );
                }
                neighbor::Destination::NextHop(_) => debug!("server {address} has a route"),
            }
        }
    }

    /// What is the kernel's, where the workers have to know it.
    fn kernel_side(&self) -> Option<Arc<KernelSide>> {
        let is_wanted = self
            .capture
            .as_ref()
            .is_some_and(|capture| capture.is_left_to_workers());
        is_wanted.then(|| {
            let addresses = self.view.addresses().iter().map(|own| own.address);
            let services = self.services.iter().map(AsRef::as_ref);
            Arc::new(KernelSide::new(addresses, services))
        })
    }

    /// Tells the backend's filter what is ours. At start a failure is fatal; later the old rules stay and the operator is told.
    fn update_capture(&mut self) -> Result<(), RuntimeError> {
        let Some(capture) = self.capture.as_mut() else {
            return Ok(());
        };
        let mut rules = capture::rules(&self.services, &self.owned, &self.view);
        if self.settling.is_some() {
            // Workers may still know what the last reload removed.
            rules = rules.together_with(&self.rules);
        }
        if rules == self.rules {
            return Ok(());
        }
        match capture.update(&rules) {
            Ok(()) => self.rules = rules,
            Err(reason) if self.rules == CaptureRules::default() => return Err(RuntimeError::Capture(reason)),
            Err(reason) => warn!("the filter keeps its old rules: {reason}"),
        }
        Ok(())
    }

    /// Gives a configuration to the workers, as the next generation.
    fn publish(&mut self, snapshot: Snapshot) {
        self.snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            kernel: self.kernel_side(),
            ..snapshot
        });
        self.workers.adopt(&self.snapshot);
    }

    /// Makes the network learn the addresses that the director answers for.
    fn announce_all(&mut self) {
        let interfaces = self.snapshot.interfaces.all();
        self.announcements.begin(Instant::now(), &self.owned, interfaces);
        let servers: usize = self.services.iter().map(|service| service.servers.len()).sum();
        info!("{} virtual services, {servers} real servers", self.services.len());
    }

    /// Takes the workers' messages in. Returns the next hops that they ask for.
    fn read_mailboxes(&mut self) -> Result<Vec<(u32, Address)>, RuntimeError> {
        let asked = self.workers.read();
        self.finish_reload();
        self.tell_waiting();
        self.announcements
            .send_due(Instant::now(), self.snapshot.interfaces.all(), &mut self.workers);
        let ports = forwarding::neighbour_ports(&self.ports, &self.view);
        let kernel_interface = |index: ulvs_dataplane::snapshot::InterfaceIndex| {
            let own = self.snapshot.interfaces.all().get(usize::from(index.0))?;
            let port = ports.iter().find(|port| port.index == u32::from(own.port.0))?;
            port.interfaces
                .iter()
                .find(|have| have.vlan == own.vlan)
                .map(|have| have.ifindex)
        };
        let wanted: BTreeSet<_> = asked
            .into_iter()
            .filter_map(|(index, address)| Some((kernel_interface(index)?, address)))
            .collect();
        Ok(wanted.into_iter().collect())
    }

    fn sample_rates(&mut self) {
        let mut estimators = std::mem::take(&mut self.estimators);
        estimators.sample(&self.services, |slot| self.counted(slot));
        self.estimators = estimators;
    }

    /// Ends everything, in order. Returns the kernel interfaces on which neighbour entries of ours may be left.
    fn stop(&mut self) -> BTreeSet<u32> {
        self.capture = None;
        self.workers.stop();
        self.kernel_interfaces()
    }
}

#[cfg(test)]
mod tests;
