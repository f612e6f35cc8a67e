//! Sees which workers do not come round: a machine without clock or thread. Beats and the time go in, events come out.
//!
//! A worker leaves a beat with each turn, microseconds apart under load and at most some milliseconds when it sleeps. Control looks for new beats ten times per
//! limit, and calls a worker stuck early enough that the limit has not passed since its last beat.

use std::time::{Duration, Instant};

/// Looks per limit.
const LOOKS: u32 = 10;

/// What became of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has not come round for so long.
    Stuck(usize),
    /// It comes round again, after so long.
    Recovered(usize, Duration),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    looked: Option<Instant>,
    workers: Vec<Watched>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// The last beat seen; 0 before the first: tables of millions of connections take their time.
    beat: u64,
    /// How long that was not followed by another, as far as control was awake to see it.
    silent: Duration,
    /// When it was last seen coming round.
    seen: Option<Instant>,
    is_stuck: bool,
}

impl Watchdog {
    pub(super) fn new(limit: Duration, workers: usize) -> Watchdog {
        Watchdog {
            limit,
            looked: None,
            workers: vec![Watched::default(); workers],
        }
    }

    /// How often to look.
    pub(super) fn period(&self) -> Duration {
        self.limit / LOOKS
    }

    /// Takes the workers' newest beats, in order.
    pub(super) fn look(&mut self, now: Instant, beats: impl Iterator<Item = u64>) -> Vec<Change> {
        let period = self.period();
        let since = self.looked.replace(now).map_or(Duration::ZERO, |looked| now - looked);
        // Where control itself was late, the whole machine stood still (a paused virtual machine): that says nothing about the workers.
        let counted = since.min(2 * period);
        let mut changes = Vec::new();
        for (number, (worker, beat)) in self.workers.iter_mut().zip(beats).enumerate() {
            if beat != worker.beat {
                if std::mem::take(&mut worker.is_stuck) {
                    let silent = worker.seen.map_or(worker.silent, |seen| now - seen);
                    changes.push(Change::Recovered(number, silent));
                }
                (worker.beat, worker.silent, worker.seen) = (beat, Duration::ZERO, Some(now));
            } else if beat != 0 {
                worker.silent += counted;
                // The last beat can be a period older than the look that found it.
                if !worker.is_stuck && worker.silent >= self.limit - period {
                    worker.is_stuck = true;
                    changes.push(Change::Stuck(number));
                }
            }
        }
        changes
    }

    /// Workers that are stuck now.
    pub(super) fn stuck(&self) -> Vec<usize> {
        (0..self.workers.len())
            .filter(|&at| self.workers[at].is_stuck)
            .collect()
    }

    /// For how long a worker has been stuck, if it is.
    pub(super) fn stuck_for(&self, worker: usize, now: Instant) -> Option<Duration> {
        let watched = self.workers.get(worker).filter(|watched| watched.is_stuck)?;
        Some(now - watched.seen?)
    }
}

#[cfg(test)]
mod tests;
