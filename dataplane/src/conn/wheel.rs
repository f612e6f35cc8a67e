//! A hierarchical timer wheel over the connection table: lists of entries by the tick at which somebody should look at them.
//!
//! A hit only writes [`Connection::expires`]; the entry stays in its list and is moved on when the list comes up ("lazy"). Only a deadline that
//! moves *earlier* relinks. Work per call is bounded by a budget; what is left over is done by the next call, in order.

use super::connection::{Connection, NONE, TimerLinks};
use crate::time::Time;

/// Nanoseconds of a tick: 2^26, about 67 ms.
const TICK_SHIFT: u32 = 26;
const LEVELS: usize = 4;
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
/// Empty ticks passed over per call: after the machine slept for a month, a burst must not wait until all of them are.
const STEPS: u32 = 4096;
/// Marks `previous` of a first entry; the rest of it is the list's number.
const HEAD: u32 = 1 << 31;
/// `previous` of an entry in no list.
const UNLINKED: u32 = u32::MAX;
/// The links of an entry in no list.
pub(super) const UNLINKED_ENTRY: TimerLinks = TimerLinks {
    previous: UNLINKED,
    next: NONE,
};

/// The tick that `time` falls into. Ticks wrap after nine years; all comparisons are by difference.
#[inline]
pub fn tick_of(time: Time) -> u32 {
    (time.0 >> TICK_SHIFT) as u32
}

/// Ticks in `seconds`, at least one, at most what differences can tell apart.
#[inline]
pub fn ticks_of_seconds(seconds: u32) -> u32 {
    let ticks = (u64::from(seconds) * 1_000_000_000) >> TICK_SHIFT;
    (ticks + 1).min(1 << 30) as u32
}

/// Whole seconds until `tick`, seen from `now`.
pub fn seconds_until(tick: u32, now: u32) -> u32 {
    let ticks = tick.wrapping_sub(now) as i32;
    if ticks <= 0 {
        0
    } else {
        ((ticks as u64) << TICK_SHIFT).div_euclid(1_000_000_000) as u32
    }
}

#[inline]
fn is_due(tick: u32, now: u32) -> bool {
    (tick.wrapping_sub(now) as i32) <= 0
}

/// The lists, and how far they have been worked through.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    current: u32,
}

impl Wheel {
    /// Empty, standing at `now`.
    pub fn new(now: u32) -> Wheel {
        Wheel {
            heads: vec![NONE; LEVELS * SLOTS].into_boxed_slice(),
            current: now,
        }
    }

    /// The list for a deadline: the finest level that can hold it.
    fn list_for(&self, expires: u32) -> usize {
        let distance = expires.wrapping_sub(self.current);
        let (tick, distance) = if is_due(expires, self.current) {
            (self.current, 0)
        } else {
            (expires, distance)
        };
        let mut level = 0;
        while level + 1 < LEVELS && distance >= 1 << (SLOT_BITS * (level as u32 + 1)) {
            level += 1;
        }
        level * SLOTS + (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
    }

    /// Puts an unlinked entry into the list for its deadline.
    pub fn link(&mut self, entries: &mut [Connection], index: u32) {
        let list = self.list_for(entries[index as usize].expires);
        let first = self.heads[list];
        let entry = &mut entries[index as usize];
        entry.timer = TimerLinks {
            previous: HEAD | list as u32,
            next: first,
        };
        if first != NONE {
            entries[first as usize].timer.previous = index;
        }
        self.heads[list] = index;
    }

    /// Takes an entry out of its list.
    pub fn unlink(&mut self, entries: &mut [Connection], index: u32) {
        let Connection {
            timer: TimerLinks { previous, next },
            ..
        } = entries[index as usize];
        if previous == UNLINKED {
            return;
        }
        if previous & HEAD != 0 {
            self.heads[(previous & !HEAD) as usize] = next;
        } else {
            entries[previous as usize].timer.next = next;
        }
        if next != NONE {
            entries[next as usize].timer.previous = previous;
        }
        entries[index as usize].timer = UNLINKED_ENTRY;
    }

    /// Works the lists through up to `now`, touching at most `budget` entries, and returns the next entry whose deadline has passed, unlinked; `None`
    /// when there is none, the budget is used up, or enough empty ticks were passed over for once. Call it again for more.
    pub fn next_expired(&mut self, entries: &mut [Connection], now: u32, budget: &mut u32) -> Option<u32> {
        let mut steps = STEPS;
        while is_due(self.current, now) {
            // A coarser list comes up when all finer digits of the tick are zero.
            let mut list = self.current as usize % SLOTS;
            for level in (1..LEVELS).rev() {
                let shift = SLOT_BITS * level as u32;
                let coarse = level * SLOTS + (self.current >> shift) as usize % SLOTS;
                if self.current & ((1 << shift) - 1) == 0 && self.heads[coarse] != NONE {
                    list = coarse;
                    break;
                }
            }
            let first = self.heads[list];
            if first == NONE {
                if self.current == now || steps == 0 {
                    return None;
                }
                steps -= 1;
                self.current = self.current.wrapping_add(1);
                continue;
            }
            if *budget == 0 {
                return None;
            }
            *budget -= 1;
            self.unlink(entries, first);
            if is_due(entries[first as usize].expires, self.current) {
                return Some(first);
            }
            self.link(entries, first);
        }
        None
    }
}
