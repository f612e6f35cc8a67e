//! Free frames: a list per worker, and a shared one that evens them out.
//!
//! Workers hand frames to each other, and the worker that sends a frame gets its chunk back. Without the shared list the giver
//! would run dry. It is touched for hundreds of chunks at once, only in housekeeping, and never waited for.

use std::sync::{Arc, Mutex, PoisonError};

/// The list that all workers share.
pub(super) type SharedChunks = Arc<Mutex<Vec<u32>>>;

/// A worker's free chunks.
pub(super) struct Pool {
    free: Vec<u32>,
    shared: SharedChunks,
    /// How many this worker wants at hand.
    keep: usize,
}

/// Chunks moved at once, at least, so that the lock is rarely touched.
const BATCH: usize = 256;

impl Pool {
    /// An empty list over the shared one, with room for `total` chunks (all there are), so that it never grows.
    pub fn new(shared: SharedChunks, total: usize, keep: usize) -> Pool {
        Pool {
            free: Vec::with_capacity(total),
            shared,
            keep,
        }
    }

    /// A list of shared chunks that holds all of them.
    pub fn share(total: u32) -> SharedChunks {
        Arc::new(Mutex::new((0..total).rev().collect()))
    }

    /// Takes a chunk, if need be from the shared list.
    pub fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.take_shared(BATCH);
        }
        self.free.pop()
    }

    /// Gives a chunk back.
    pub fn give(&mut self, chunk: u32) {
        self.free.push(chunk);
    }

    /// Chunks in this worker's list.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Chunks in the shared list.
    pub fn shared_len(&self) -> usize {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Moves what is too much to the shared list, or fetches what is missing.
    pub fn balance(&mut self) {
        if self.free.len() >= self.keep + BATCH {
            if let Ok(mut shared) = self.shared.try_lock() {
                shared.extend(self.free.drain(self.keep..));
            }
        } else if self.free.len() + BATCH <= self.keep {
            self.take_shared(self.keep - self.free.len());
        }
    }

    fn take_shared(&mut self, count: usize) {
        if let Ok(mut shared) = self.shared.try_lock() {
            let start = shared.len().saturating_sub(count);
            self.free.extend(shared.drain(start..));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_only_gives_is_supplied_by_one_that_only_gets() {
        let total = 4096;
        let shared = Pool::share(total);
        let mut giver = Pool::new(shared.clone(), total as usize, 1024);
        let mut getter = Pool::new(shared, total as usize, 1024);
        for round in 0..100_000 {
            let chunk = giver
                .take()
                .unwrap_or_else(|| panic!("the giver ran dry in round {round}"));
            getter.give(chunk);
            giver.balance();
            getter.balance();
        }
        assert_eq!(giver.len() + getter.len() + giver.shared_len(), total as usize);
    }

    #[test]
    fn no_chunk_is_given_out_twice() {
        let shared = Pool::share(1000);
        let mut pool = Pool::new(shared, 1000, 300);
        let mut seen: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
}
