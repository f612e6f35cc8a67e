//! The thread between workers and twins.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::error;
use ulvs_dataplane::worker::Wake;

use super::classify::{Class, classify};
use super::counters::Counters;
use super::limit::TokenBucket;
use super::shared::Shared;
use super::{Error, Limits, Twin};

/// Frames in one direction before the other one has its turn.
const BUDGET: usize = 64;
/// A limit is spread over this part of a second; at least so many frames may come at once.
const BURSTS_PER_SECOND: u32 = 20;
const LEAST_BURST: u32 = 32;

/// The running slow path. Ends with this value; twins that were not there before are gone then.
pub struct Running {
    shared: Arc<Shared>,
    twins: Arc<[Twin]>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(twins: Arc<[Twin]>, shared: Arc<Shared>, limits: Limits, wake: Wake) -> Result<Running, Error> {
        let work = Work {
            buckets: twins.iter().map(|_| buckets(&limits)).collect(),
            is_lost: vec![false; twins.len()],
            buffer: vec![0; shared.ports.iter().map(|port| port.frame_bytes).max().unwrap_or(0)],
            twins: Arc::clone(&twins),
            shared: Arc::clone(&shared),
            next_port: 0,
            started: Instant::now(),
            wake,
        };
        let thread = std::thread::Builder::new()
            .name("slow-path".to_owned())
            .spawn(move || work.run())
            .map_err(|error| Error::call("starting the thread", "the slow path", error))?;
        Ok(Running {
            shared,
            twins,
            thread: Some(thread),
        })
    }

    /// For the control thread.
    pub fn counters(&self) -> Counters {
        Counters::new(Arc::clone(&self.shared))
    }

    /// The twins, by port.
    pub fn twins(&self) -> &[Twin] {
        &self.twins
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.ring();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the slow-path thread had panicked; its message stands above");
        }
    }
}

/// By class; none: no limit.
fn buckets(limits: &Limits) -> [Option<TokenBucket>; Class::ALL.len()] {
    let bucket = |pps: u32| {
        Some(TokenBucket::new(
            pps,
            (pps / BURSTS_PER_SECOND).max(LEAST_BURST),
            Duration::ZERO,
        ))
    };
    [
        None,
        bucket(limits.routing_pps),
        bucket(limits.neighbour_pps),
        bucket(limits.rest_pps),
    ]
}

struct Work {
    twins: Arc<[Twin]>,
    shared: Arc<Shared>,
    buckets: Vec<[Option<TokenBucket>; Class::ALL.len()]>,
    /// The twin was removed under us.
    is_lost: Vec<bool>,
    /// Where the next frame is looked for first, so that no port waits for another.
    next_port: usize,
    buffer: Vec<u8>,
    started: Instant,
    wake: Wake,
}

impl Work {
    fn run(mut self) {
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            let punted = self.write_to_kernel();
            let injected = (0..self.twins.len())
                .map(|port| self.read_from_kernel(port))
                .sum::<usize>();
            if injected > 0 {
                (self.wake)();
            }
            if punted == 0 && injected == 0 {
                self.sleep();
            }
        }
    }

    /// Writes frames to the twins, always one of the most important class that has any and may go on. Returns how many.
    fn write_to_kernel(&mut self) -> usize {
        let now = self.started.elapsed();
        for count in 0..BUDGET {
            let Some((port, class, frame)) = self.next(now) else {
                return count;
            };
            let lanes = &self.shared.ports[port];
            let counters = &lanes.counters[class];
            let counter = match self.twins[port].write(&frame) {
                Ok(()) => &counters.punted,
                Err(_) => &counters.punt_refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            lanes.to_kernel[class].give_back(frame);
        }
        BUDGET
    }

    fn next(&mut self, now: Duration) -> Option<(usize, usize, Vec<u8>)> {
        let count = self.twins.len();
        for class in 0..Class::ALL.len() {
            for port in (0..count).map(|offset| (self.next_port + offset) % count) {
                let lane = &self.shared.ports[port].to_kernel[class];
                let bucket = &mut self.buckets[port][class];
                // While it waits for its rate, workers do not wake us: so that must end by itself even when nothing waits any more.
                if lane.is_throttled.load(Ordering::Relaxed)
                    && bucket.as_mut().is_none_or(|bucket| bucket.wait(now).is_zero())
                {
                    lane.is_throttled.store(false, Ordering::Relaxed);
                }
                if lane.is_empty() {
                    continue;
                }
                if bucket.as_mut().is_some_and(|bucket| !bucket.take(now)) {
                    lane.is_throttled.store(true, Ordering::Relaxed);
                    continue;
                }
                if let Some(frame) = lane.take() {
                    self.next_port = (port + 1) % count;
                    return Some((port, class, frame));
                }
            }
        }
        None
    }

    /// Reads what the kernel sends on one twin. Returns how many frames were there for a worker.
    fn read_from_kernel(&mut self, port: usize) -> usize {
        if self.is_lost[port] {
            return 0;
        }
        let lanes = &self.shared.ports[port];
        let mut count = 0;
        for _ in 0..BUDGET {
            let frame = match self.twins[port].read(&mut self.buffer) {
                Ok(length) => &self.buffer[..length],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = self.twins[port].name();
                    error!(
                        "the twin {name} cannot be read any more ({error}); was it removed? Nothing but balanced traffic passes its port until ulvsd is restarted"
                    );
                    self.is_lost[port] = true;
                    break;
                }
            };
            let class = classify(frame) as usize;
            match lanes.from_kernel[class].put(std::iter::once(frame)) {
                Ok(()) => count += 1,
                Err(_) => drop(lanes.counters[class].inject_ring_full.fetch_add(1, Ordering::Relaxed)),
            }
        }
        if count > 0 {
            lanes.has_injected.store(true, Ordering::Release);
        }
        count
    }

    /// Until a worker has a frame, the kernel has one, or a rate allows more.
    fn sleep(&mut self) {
        let timeout = self.until_a_rate_allows_more();
        if self.shared.falls_asleep() {
            let mut wait_for = vec![PollFd::new(self.shared.event.as_fd(), PollFlags::POLLIN)];
            for (twin, _) in self.twins.iter().zip(&self.is_lost).filter(|(_, is_lost)| !**is_lost) {
                wait_for.push(PollFd::new(twin.as_fd(), PollFlags::POLLIN));
            }
            // Interrupted: as good as woken.
            let _ = poll(&mut wait_for, timeout);
        }
        self.shared.gets_up();
    }

    fn until_a_rate_allows_more(&mut self) -> PollTimeout {
        let now = self.started.elapsed();
        let mut soonest: Option<Duration> = None;
        for (lanes, buckets) in self.shared.ports.iter().zip(&mut self.buckets) {
            for (lane, bucket) in lanes.to_kernel.iter().zip(buckets) {
                if let Some(bucket) = bucket
                    && lane.is_throttled.load(Ordering::Relaxed)
                {
                    let wait = bucket.wait(now);
                    soonest = Some(soonest.map_or(wait, |other| other.min(wait)));
                }
            }
        }
        let milliseconds = soonest.map(|wait| wait.as_nanos().div_ceil(1_000_000).clamp(1, 1000) as u16);
        milliseconds.map_or(PollTimeout::NONE, PollTimeout::from)
    }
}
