//! How many connections each real server has: the only words that workers share for writing, touched when a connection opens, closes
//! or changes between active and inactive, never per packet.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use super::{Server, ServerSlot};

/// Connections of one server, all workers together, and whether it counts as overloaded.
///
/// Counts and flag share one word, so that a change of both is one step for all workers: a worker that sets the flag for a count
/// that another worker has just lowered would leave a server without connections overloaded for ever.
#[derive(Debug, Default)]
pub struct Load {
    connections: AtomicU64,
    templates: AtomicU32,
}

/// The loads of all servers, by [`ServerSlot`]. Made once, for as many servers as the director's limit allows.
#[derive(Debug)]
pub struct Loads(Box<[CachePadded<Load>]>);

impl Loads {
    /// All counts 0.
    pub fn new(server_limit: usize) -> Loads {
        Loads((0..server_limit).map(|_| CachePadded::default()).collect())
    }

    /// The load of the server in `slot`.
    #[inline]
    pub fn get(&self, slot: ServerSlot) -> &Load {
        &self.0[slot.0 as usize]
    }

    /// Whether a scheduler may give `server` a new connection: its weight is not 0 and it is not overloaded.
    #[inline]
    pub fn is_usable(&self, server: &Server) -> bool {
        server.weight > 0 && !self.get(server.slot).is_overloaded()
    }
}

impl Load {
    /// Active connections (`ActiveConn` in ipvsadm).
    #[inline]
    pub fn active(&self) -> u32 {
        self.counts().active
    }

    /// Inactive connections (`InActConn` in ipvsadm).
    #[inline]
    pub fn inactive(&self) -> u32 {
        self.counts().inactive
    }

    /// Whether the upper threshold was reached and the lower one not yet crossed again.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.counts().overloaded
    }

    /// What lc and wlc compare: 257 for an active connection, 1 for an inactive one. The kernel (6.12) adds 256 for each active
    /// connection to the number of all connections.
    #[inline]
    pub fn overhead(&self) -> u64 {
        let counts = self.counts();
        256 * u64::from(counts.active) + counts.total()
    }

    /// A connection was bound to `server`, whose load this is. It becomes overloaded when it now has as many connections as its
    /// upper threshold.
    pub fn open(&self, server: &Server, active: bool) {
        self.change(|counts| {
            let count = counts.of(active);
            *count = (*count + 1).min(COUNT_MAX);
            if server.upper_threshold != 0 && counts.total() >= u64::from(server.upper_threshold) {
                counts.overloaded = true;
            }
        });
    }

    /// A connection ended. `upper` and `lower` are the server's thresholds now (0 and 0 when it is no longer configured). The server
    /// stops being overloaded below the lower threshold; without one, below three quarters of the upper; without both, at once.
    pub fn close(&self, upper: u32, lower: u32, active: bool) {
        self.change(|counts| {
            let count = counts.of(active);
            *count = count.saturating_sub(1);
            let relieved = match (upper, lower) {
                (0, 0) => true,
                (_, 0) => counts.total() * 4 < u64::from(upper) * 3,
                _ => counts.total() < u64::from(lower),
            };
            counts.overloaded &= !relieved;
        });
    }

    /// A connection that was counted as inactive became active, or (`active` false) the other way round.
    pub fn set_active(&self, active: bool) {
        self.change(|counts| {
            if *counts.of(!active) > 0 {
                *counts.of(!active) -= 1;
                let count = counts.of(active);
                *count = (*count + 1).min(COUNT_MAX);
            }
        });
    }

    /// Persistence templates that name the server (`PersistConn` in ipvsadm).
    #[inline]
    pub fn templates(&self) -> u32 {
        self.templates.load(Relaxed)
    }

    /// A template was bound to the server. Templates are no connections: thresholds and schedulers do not see them.
    pub fn open_template(&self) {
        self.templates.fetch_add(1, Relaxed);
    }

    /// A template ended, or got another server.
    pub fn close_template(&self) {
        self.templates.fetch_sub(1, Relaxed);
    }

    /// Whether nothing in any table names the server.
    pub fn is_unused(&self) -> bool {
        self.active() == 0 && self.inactive() == 0 && self.templates() == 0
    }

    /// The server's upper threshold was edited: none, or a higher one than before, ends the overload (the next connection sets it
    /// again where it still holds); an equal or lower one leaves things as they are.
    pub fn upper_threshold_edited(&self, old: u32, new: u32) {
        if new == 0 || new > old {
            self.change(|counts| counts.overloaded = false);
        }
    }

    /// Back to no connections: the slot gets a new server.
    pub fn reset(&self) {
        self.connections.store(0, Relaxed);
        self.templates.store(0, Relaxed);
    }

    #[inline]
    fn counts(&self) -> Counts {
        Counts::unpack(self.connections.load(Relaxed))
    }

    fn change(&self, change: impl Fn(&mut Counts)) {
        let changed = self.connections.fetch_update(Relaxed, Relaxed, |word| {
            let mut counts = Counts::unpack(word);
            change(&mut counts);
            Some(counts.pack())
        });
        debug_assert!(changed.is_ok(), "the closure above always gives a word");
    }
}

/// The unpacked word of a [`Load`].
struct Counts {
    active: u32,
    inactive: u32,
    overloaded: bool,
}

/// Bits of each count in the word; more connections than they hold fit into no machine's memory.
const COUNT_BITS: u32 = 31;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const OVERLOADED: u64 = 1 << 63;

impl Counts {
    #[inline]
    fn unpack(word: u64) -> Counts {
        Counts {
            active: (word as u32) & COUNT_MAX,
            inactive: ((word >> COUNT_BITS) as u32) & COUNT_MAX,
            overloaded: word & OVERLOADED != 0,
        }
    }

    fn pack(&self) -> u64 {
        let overloaded = if self.overloaded { OVERLOADED } else { 0 };
        u64::from(self.active) | u64::from(self.inactive) << COUNT_BITS | overloaded
    }

    fn of(&mut self, active: bool) -> &mut u32 {
        if active { &mut self.active } else { &mut self.inactive }
    }

    #[inline]
    fn total(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::service::{ForwardingMethod, TunnelType};

    fn server(upper_threshold: u32) -> Server {
        Server {
            slot: ServerSlot(0),
            address: Address::v4([10, 0, 2, 11]),
            port: 80,
            weight: 1,
            last_weight: 1,
            method: ForwardingMethod::Nat,
            upper_threshold,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        }
    }

    fn loaded(server: &Server, connections: u32) -> Load {
        let load = Load::default();
        (0..connections).for_each(|_| load.open(server, false));
        load
    }

    #[test]
    fn a_connection_is_counted_where_its_state_says() {
        let load = loaded(&server(0), 3);
        load.set_active(true);
        load.set_active(true);
        assert_eq!((load.active(), load.inactive(), load.overhead()), (2, 1, 515));
        load.set_active(false);
        load.close(0, 0, true);
        assert_eq!((load.active(), load.inactive()), (0, 2));
    }

    #[test]
    fn counts_never_go_below_zero() {
        let load = Load::default();
        load.set_active(true);
        load.set_active(false);
        load.close(0, 0, true);
        load.close(0, 0, false);
        assert_eq!((load.active(), load.inactive(), load.is_overloaded()), (0, 0, false));
    }

    #[test]
    fn overload_ends_below_the_lower_threshold() {
        let load = loaded(&server(4), 4);
        assert!(load.is_overloaded());
        load.close(4, 2, false);
        load.close(4, 2, false);
        assert!(load.is_overloaded(), "2 connections are not below 2");
        load.close(4, 2, false);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn overload_without_lower_threshold_ends_below_three_quarters() {
        let load = loaded(&server(4), 4);
        load.close(4, 0, false);
        assert!(load.is_overloaded(), "3 of 4 are not below three quarters");
        load.close(4, 0, false);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn only_a_raised_or_removed_upper_threshold_ends_overload() {
        let load = loaded(&server(4), 4);
        load.upper_threshold_edited(4, 4);
        load.upper_threshold_edited(4, 3);
        assert!(load.is_overloaded());
        load.upper_threshold_edited(4, 5);
        assert!(!load.is_overloaded());
        let load = loaded(&server(4), 4);
        load.upper_threshold_edited(4, 0);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn workers_together_lose_no_count() {
        let load = Load::default();
        let server = server(7);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        load.open(&server, false);
                        load.set_active(true);
                        load.close(7, 0, true);
                    }
                });
            }
        });
        assert_eq!((load.active(), load.inactive(), load.is_overloaded()), (0, 0, false));
    }
}
