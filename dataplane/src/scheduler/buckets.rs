//! The lookup table of the hashing schedulers.

use std::fmt;
use std::sync::Arc;

use super::conhash::RingPoint;
use crate::service::{Loads, Service};

/// A lookup table built when a service is compiled, shared by all workers.
#[derive(Clone, Debug, Default)]
pub enum SchedulerTable {
    /// The algorithm needs none.
    #[default]
    None,
    /// A place in `Service::servers` for each hash value; empty when there is no server.
    Buckets(Arc<[u16]>),
    /// Points in rising order of their hash; empty when no server has a weight.
    Ring(Arc<[RingPoint]>),
}

/// The scheduler cannot spread over that many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyServers {
    /// How many servers the service has.
    pub count: usize,
    /// How many it may have with this scheduler.
    pub limit: usize,
}

impl fmt::Display for TooManyServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the service has {} servers, but its scheduler takes at most {}; remove servers or use another scheduler",
            self.count, self.limit
        )
    }
}

impl std::error::Error for TooManyServers {}

/// The buckets of dh and sh: a power of two, the size that kernels are built with.
const BUCKET_BITS: u32 = 8;
pub(super) const BUCKET_COUNT: u32 = 1 << BUCKET_BITS;

/// The kernel's `hash_32` down to one of 2^`bits` values: the top bits of a multiplication by the golden ratio's fraction, as kernels
/// from 4.7 on have it.
pub(super) fn golden_ratio_hash(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - bits)
}

/// The bucket that dh and sh begin at.
pub(super) fn bucket_of(value: u32) -> u32 {
    golden_ratio_hash(value, BUCKET_BITS)
}

/// Picks by hash, as sh and mh share it: `hash` turns a retry offset (0 for the first try) into a bucket of a table with
/// `bucket_count` buckets.
///
/// Without the fallback flag only the client's own bucket counts. With it the kernel hashes again with the offsets `own`, `own` + 1,
/// … (modulo the table size), once for each bucket, until a usable server is found or a bucket is empty.
pub(super) fn pick_by_hash(
    service: &Service,
    loads: &Loads,
    bucket_count: u32,
    hash: impl Fn(u32) -> u32,
) -> Option<usize> {
    let SchedulerTable::Buckets(buckets) = &service.scheduler_table else {
        return None;
    };
    let server_in = |bucket: u32| buckets.get(bucket as usize).map(|place| usize::from(*place));
    let usable = |place: usize| service.servers.get(place).is_some_and(|server| loads.is_usable(server));

    let own = hash(0);
    let first = server_in(own)?;
    if usable(first) {
        return Some(first);
    }
    // Thousands of tries that must all fail are not made: a service that is down must not cost a worker its time.
    if !service.scheduler_flags.fallback || !service.servers.iter().any(|server| loads.is_usable(server)) {
        return None;
    }
    for retry in 0..bucket_count {
        let next = server_in(hash((own + retry) % bucket_count))?;
        if usable(next) {
            return Some(next);
        }
    }
    None
}
