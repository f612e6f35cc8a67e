//! What the director does about workers that are stuck or have ended: it gives up its virtual addresses, and takes them back when all come round again.

use std::time::Instant;

use tracing::{error, info, warn};
use ulvs_dataplane::snapshot::Snapshot;

use super::watchdog::Change;
use super::{Health, Runtime, RuntimeError};

impl Runtime {
    /// Looks whether all workers come round.
    ///
    /// # Errors
    /// A worker's thread has ended.
    pub(super) fn watch_workers(&mut self) -> Result<(), RuntimeError> {
        if let Some(worker) = self.workers.find_stopped() {
            let stuck = self.watchdog.stuck();
            self.set_health(Health {
                stuck,
                ended: Some(worker),
            });
            return Err(RuntimeError::WorkerStopped(worker));
        }
        let beats = self.workers.handles().map(|worker| worker.counters.heartbeat_ns.get());
        let changes = self.watchdog.look(Instant::now(), beats);
        for change in &changes {
            match change {
                Change::Stuck(worker) => self.explain_stuck(*worker),
                Change::Recovered(worker, after) => {
                    warn!("worker {worker} comes round again, after {} ms", after.as_millis());
                }
            }
        }
        if !changes.is_empty() {
            self.set_health(Health {
                stuck: self.watchdog.stuck(),
                ended: None,
            });
        }
        Ok(())
    }

    fn explain_stuck(&self, worker: usize) {
        let core = self.workers.handles().nth(worker).and_then(|handle| handle.core);
        let place = core.map_or("not pinned".to_owned(), |core| format!("pinned to core {core}"));
        error!(
            "worker {worker} ({place}) has not come round for {} ms: packets of its queues and connections are not forwarded. `top -H -p {}` shows its \
             thread, worker-{worker}: if it has the whole core, ulvsd is at fault; if not, something else takes the core from it",
            self.config.director.worker_timeout.as_millis(),
            std::process::id(),
        );
        if let Some(settling) = &self.settling {
            error!(
                "the reload of generation {} is not complete before worker {worker} comes round",
                settling.generation()
            );
        }
    }

    /// Gives the virtual addresses up, or takes them back, and tells the subscribers.
    fn set_health(&mut self, health: Health) {
        let (held, holds) = (self.health.borrow().holds_addresses(), health.holds_addresses());
        if held && !holds {
            error!(
                "the virtual addresses are given up: {health}. Workers that come round go on forwarding what still arrives"
            );
            self.announcements.forget_all();
        }
        if held != holds {
            self.publish(Snapshot {
                has_given_up: !holds,
                ..(*self.snapshot).clone()
            });
        }
        self.health.send_replace(health);
        if !held && holds {
            info!("the virtual addresses are taken back: all workers come round");
            let interfaces = self.snapshot.interfaces.all();
            self.announcements.begin(Instant::now(), &self.owned, interfaces);
        }
    }
}
