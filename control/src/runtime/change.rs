//! Changes from the command line in a running director: the same road as a reload, and an answer when all workers have come to its end.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use super::reload::Cause;
use super::{Runtime, Shared};
use crate::api::changes::{Change, ChangesOutcome};
use crate::api::protocol::ErrorCode;
use crate::api::views::Traffic;
use crate::api::{Answer, Refusal};
use crate::change::{self, Key};

#[cfg(test)]
mod tests;

/// How long the workers may take to adopt a configuration. They do so within milliseconds.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(5);

/// Whoever waits until all workers work by a generation.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(u64, oneshot::Sender<()>)>);

impl Waiting {
    fn until(&mut self, generation: u64) -> oneshot::Receiver<()> {
        let (adopted, is_adopted) = oneshot::channel();
        self.0.push((generation, adopted));
        is_adopted
    }
}

/// Makes changes, and waits until they are in force.
pub(super) async fn change(shared: &Shared, changes: Vec<Change>, atomic: bool) -> Answer<ChangesOutcome> {
    let (outcome, adopted) = {
        let mut runtime = shared.borrow_mut();
        let outcome = runtime.apply(&changes, atomic)?;
        let adopted = runtime.waiting.until(outcome.generation);
        (outcome, adopted)
    };
    if !matches!(timeout(ADOPTION_PATIENCE, adopted).await, Ok(Ok(()))) {
        return Err(Refusal::new(
            ErrorCode::Unavailable,
            format!(
                "the change is made, but after {} s not all workers work by it; see `ulvs workers`",
                ADOPTION_PATIENCE.as_secs()
            ),
        ));
    }
    // New servers are resolved before their first packet, or soon after.
    shared.borrow().kernel_wanted.notify_one();
    Ok(outcome)
}

impl Runtime {
    /// Makes changes; `outcome.generation` is the one to wait for.
    pub(super) fn apply(&mut self, changes: &[Change], atomic: bool) -> Answer<ChangesOutcome> {
        let applied = change::apply(&self.config, changes, atomic);
        if let Some(config) = applied.config {
            let made = changes.len() - applied.failures.len();
            self.change_to(config, Cause::CommandLine(made))
                .map_err(|reason| Refusal::new(ErrorCode::NoRoom, format!("Memory allocation problem: {reason}")))?;
        }
        for key in applied.zeroed {
            self.zero(key);
        }
        Ok(ChangesOutcome {
            generation: self.snapshot.generation,
            failures: applied.failures,
        })
    }

    /// Tells those whose generation all workers work by.
    pub(super) fn tell_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting.0);
        let (reached, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(generation, _)| self.workers.all_adopted(*generation));
        self.waiting.0 = waiting;
        for (_, adopted) in reached {
            // Whoever asked may have gone.
            let _ = adopted.send(());
        }
    }

    /// `ipvsadm -Z`: from here on counters are shown from 0. Workers' counters go on; control remembers where they stood.
    fn zero(&mut self, key: Option<Key>) {
        let wanted = |address, port, protocol: u8| {
            key.is_none_or(|key| (key.address, key.port, key.protocol.number()) == (address, port, protocol))
        };
        let services = self
            .services
            .iter()
            .filter(|own| wanted(own.address, own.port, own.protocol));
        for service in services.cloned().collect::<Vec<_>>() {
            for server in &service.servers {
                self.begin_counting(server.slot);
            }
            self.estimators.zero(service.slot);
        }
        if key.is_none() {
            self.totals_before = self.counted_by_worker();
            self.estimators.zero_all();
            info!("all counters of services were zeroed");
        }
    }

    /// By worker: all traffic since the director started.
    pub(super) fn counted_by_worker(&self) -> Vec<Traffic> {
        let used = self.compiler.server_slots();
        let workers = self.workers.handles();
        workers
            .map(|worker| {
                let slots = used.clone().map(|slot| super::api::traffic_of(worker, slot));
                slots.fold(Traffic::default(), |sum, traffic| sum.plus(&traffic))
            })
            .collect()
    }
}
