//! What lblc and lblcr share: a table of called addresses with what is remembered of each, bounded and swept as the kernel's, and
//! the servers that it names.
//!
//! All memory is reserved when the table is made and used again; pages that no address has reached yet are not the machine's.

use super::buckets::golden_ratio_hash;
use crate::address::Address;
use crate::service::{Loads, Server, ServerSlot, Service};
use crate::time::Time;

const BUCKET_BITS: u32 = 10;
const BUCKET_COUNT: usize = 1 << BUCKET_BITS;
/// With more entries than that, those not used for [`IDLE_WHEN_FULL`] are swept out (kernel: `max_size`).
const SWEEP_ABOVE: usize = BUCKET_COUNT * 16;
/// There are never more. The kernel takes memory as long as there is some; further addresses are then scheduled but not remembered.
pub(super) const ENTRY_LIMIT: usize = SWEEP_ABOVE * 3 / 2;
/// The kernel's `ENTRY_TIMEOUT`.
const IDLE_WHEN_FULL: Time = Time::from_secs(6 * 60);
/// The kernel's `lblc_expiration` and `lblcr_expiration`.
pub(super) const EXPIRATION: Time = Time::from_secs(24 * 60 * 60);
/// How often the kernel's timer looks at a table.
const CHECK_INTERVAL: Time = Time::from_secs(60);
/// At every so many checks, if the table was not too large meanwhile, what was not used for [`EXPIRATION`] is swept out.
const CHECKS_FOR_FULL_SWEEP: u64 = 30;
/// Buckets swept with each pick: bounds what one packet waits for.
const BUCKETS_PER_PICK: u32 = 32;
/// No entry: the end of a chain.
const NONE: u32 = u32::MAX;

/// See the module. `T` is what is remembered of an address.
#[derive(Debug)]
pub(super) struct Locality<T> {
    buckets: Box<[u32]>,
    entries: Vec<Entry<T>>,
    free: u32,
    used: usize,
    checks: Checks,
}

#[derive(Debug)]
struct Entry<T> {
    address: Address,
    last_used: Time,
    next: u32,
    value: T,
}

/// The kernel's timer and its sweeps.
#[derive(Clone, Copy, Debug)]
struct Checks {
    /// When the timer fires next; `None` until the first pick.
    next: Option<Time>,
    /// Checks since the last full sweep, and 1.
    count: u64,
    /// When the last full sweep began.
    last_full: Time,
    /// The bucket that was swept last.
    rover: u32,
    sweep: Option<Sweep>,
}

#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// Entries not used since then go.
    idle_since: Time,
    /// How many have to go; `None`: all that are idle.
    goal: Option<usize>,
    buckets_left: u32,
}

/// `time` earlier by `span`; `None` when the clock did not run then.
fn before(time: Time, span: Time) -> Option<Time> {
    time.0.checked_sub(span.0).map(Time)
}

impl<T: Copy> Locality<T> {
    /// Empty, with its memory reserved.
    pub fn new() -> Locality<T> {
        Locality {
            buckets: vec![NONE; BUCKET_COUNT].into(),
            entries: Vec::with_capacity(ENTRY_LIMIT),
            free: NONE,
            used: 0,
            checks: Checks {
                next: None,
                count: 1,
                last_full: Time(0),
                rover: 0,
                sweep: None,
            },
        }
    }

    /// What is remembered of `address`, now used; `forgotten` is told of every entry that the kernel's timer would have taken out by now.
    pub fn touch(&mut self, address: &Address, now: Time, mut forgotten: impl FnMut(T)) -> Option<&mut T> {
        self.check(now, &mut forgotten);
        let index = self.find(address)?;
        // A full sweep goes on bucket by bucket here, but counts as done where one looks.
        let expires = self.entries[index as usize].last_used + EXPIRATION.0;
        if expires <= self.checks.last_full {
            let idle_since = before(self.checks.last_full, EXPIRATION)?;
            self.sweep_bucket(bucket_of(address), idle_since, &mut forgotten);
            return None;
        }
        let entry = &mut self.entries[index as usize];
        entry.last_used = now;
        Some(&mut entry.value)
    }

    /// Remembers `value` for an address of which nothing is remembered. Returns whether there was room.
    pub fn insert(&mut self, address: Address, now: Time, value: T) -> bool {
        let bucket = bucket_of(&address) as usize;
        let entry = Entry {
            address,
            last_used: now,
            next: self.buckets[bucket],
            value,
        };
        let index = self.free;
        if index != NONE {
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            self.buckets[bucket] = index;
        } else if self.entries.len() < ENTRY_LIMIT {
            self.buckets[bucket] = self.entries.len() as u32;
            self.entries.push(entry);
        } else {
            return false;
        }
        self.used += 1;
        true
    }

    /// Changes every value that is remembered.
    pub fn for_each(&mut self, mut change: impl FnMut(&mut T)) {
        for first in &self.buckets {
            let mut index = *first;
            while let Some(entry) = self.entries.get_mut(index as usize) {
                change(&mut entry.value);
                index = entry.next;
            }
        }
    }

    fn find(&self, address: &Address) -> Option<u32> {
        let mut index = self.buckets[bucket_of(address) as usize];
        while let Some(entry) = self.entries.get(index as usize) {
            if entry.address == *address {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }

    /// What the kernel's timer does until `now`, a bounded part of it at a time.
    fn check(&mut self, now: Time, forgotten: &mut impl FnMut(T)) {
        let next = *self.checks.next.get_or_insert(now + CHECK_INTERVAL.0);
        if now < next {
            return self.go_on_sweeping(forgotten);
        }
        // Without packets nobody looked: what several checks would have done, the last of them does.
        let due = now.since(next) / CHECK_INTERVAL.0 + 1;
        self.checks.next = Some(next + due * CHECK_INTERVAL.0);
        if self.used > SWEEP_ABOVE && self.checks.count.max(due) < CHECKS_FOR_FULL_SWEEP {
            let goal = ((self.used - SWEEP_ABOVE) * 4 / 3).min(SWEEP_ABOVE / 2);
            self.begin_sweep(next + (due - 1) * CHECK_INTERVAL.0, IDLE_WHEN_FULL, Some(goal));
            return;
        }
        let until_full = CHECKS_FOR_FULL_SWEEP - self.checks.count;
        if due <= until_full {
            self.checks.count += due;
            return;
        }
        let after_first = due - until_full - 1;
        let last = until_full + after_first / CHECKS_FOR_FULL_SWEEP * CHECKS_FOR_FULL_SWEEP;
        self.checks.count = due - last;
        self.checks.last_full = next + last * CHECK_INTERVAL.0;
        self.begin_sweep(self.checks.last_full, EXPIRATION, None);
    }

    fn begin_sweep(&mut self, at: Time, idle: Time, goal: Option<usize>) {
        self.checks.sweep = before(at, idle).map(|idle_since| Sweep {
            idle_since,
            goal,
            buckets_left: BUCKET_COUNT as u32,
        });
    }

    fn go_on_sweeping(&mut self, forgotten: &mut impl FnMut(T)) {
        let Some(mut sweep) = self.checks.sweep.take() else {
            return;
        };
        for _ in 0..BUCKETS_PER_PICK.min(sweep.buckets_left) {
            self.checks.rover = (self.checks.rover + 1) % BUCKET_COUNT as u32;
            sweep.buckets_left -= 1;
            let gone = self.sweep_bucket(self.checks.rover, sweep.idle_since, forgotten);
            if let Some(goal) = &mut sweep.goal {
                *goal = goal.saturating_sub(gone);
                if *goal == 0 {
                    return;
                }
            }
        }
        if sweep.buckets_left > 0 {
            self.checks.sweep = Some(sweep);
        }
    }

    /// Takes out what was not used after `idle_since`; how many that were.
    fn sweep_bucket(&mut self, bucket: u32, idle_since: Time, forgotten: &mut impl FnMut(T)) -> usize {
        let mut gone = 0;
        let mut previous = NONE;
        let mut index = self.buckets[bucket as usize];
        while index != NONE {
            let entry = &mut self.entries[index as usize];
            let next = entry.next;
            if entry.last_used > idle_since {
                previous = index;
            } else {
                forgotten(entry.value);
                entry.next = self.free;
                self.free = index;
                match previous {
                    NONE => self.buckets[bucket as usize] = next,
                    previous => self.entries[previous as usize].next = next,
                }
                gone += 1;
            }
            index = next;
        }
        self.used -= gone;
        gone
    }
}

fn bucket_of(address: &Address) -> u32 {
    golden_ratio_hash(address.fold(), BUCKET_BITS)
}

/// The servers that a table may name, by slot, those that left the service among them: an address stays with a server that comes back,
/// as in the kernel, which keeps it aside as long as an entry names it.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<Member>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    slot: ServerSlot,
    address: Address,
    port: u16,
    /// The weight, or the last one that it had.
    pub weight: u32,
    /// Where it is in `Service::servers`; `None` when it left.
    pub place: Option<usize>,
}

impl Members {
    /// Takes a new list of servers over. Returns the slots that now hold another server than before, of which nothing is remembered.
    pub fn update(&mut self, servers: &[Server]) -> Vec<ServerSlot> {
        let old = std::mem::take(&mut self.0);
        let of_server = |(place, server): (usize, &Server)| Member {
            slot: server.slot,
            address: server.address,
            port: server.port,
            weight: server.weight,
            place: Some(place),
        };
        self.0 = servers.iter().enumerate().map(of_server).collect();
        self.0.sort_unstable_by_key(|member| member.slot);
        let mut replaced = Vec::new();
        let mut left = Vec::new();
        for member in old {
            match self.get(member.slot) {
                None => left.push(Member { place: None, ..member }),
                Some(new) if (new.address, new.port) != (member.address, member.port) => replaced.push(member.slot),
                Some(_) => {}
            }
        }
        self.0.append(&mut left);
        self.0.sort_unstable_by_key(|member| member.slot);
        replaced
    }

    /// The server in `slot`.
    pub fn get(&self, slot: ServerSlot) -> Option<&Member> {
        // The slots of a service mostly follow one another.
        let guess = slot.0.wrapping_sub(self.0.first()?.slot.0) as usize;
        if let Some(member) = self.0.get(guess)
            && member.slot == slot
        {
            return Some(member);
        }
        let at = self.0.binary_search_by_key(&slot, |member| member.slot).ok()?;
        self.0.get(at)
    }

    /// The place of the server in `slot`, if it is in the service.
    pub fn place(&self, slot: ServerSlot) -> Option<usize> {
        self.get(slot)?.place
    }
}

/// Whether a server has more active connections than its weight while another has fewer than half of its own: then an address moves on.
pub(super) fn is_crowded(server: &Server, service: &Service, loads: &Loads) -> bool {
    let active = |server: &Server| loads.get(server.slot).active();
    let has_room = |server: &Server| u64::from(active(server)) * 2 < u64::from(server.weight);
    active(server) > server.weight && service.servers.iter().any(has_room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Address {
        Address::v4(number.to_be_bytes())
    }

    fn minutes(count: u64) -> Time {
        Time::from_secs(1000 + count * 60)
    }

    /// Uses an address at a time, remembering its number where nothing is; whether something was.
    fn use_at(table: &mut Locality<u32>, number: u32, now: Time) -> bool {
        let known = table.touch(&address(number), now, |_| ()).copied();
        assert!(known.is_none_or(|known| known == number));
        if known.is_none() {
            table.insert(address(number), now, number);
        }
        known.is_some()
    }

    #[test]
    fn what_was_not_used_for_a_day_goes_with_the_next_full_sweep() {
        let mut table = Locality::new();
        for number in 0..100 {
            assert!(!use_at(&mut table, number, minutes(0)));
            assert!(use_at(&mut table, number, minutes(1)));
        }
        // Timers count from the first use. Full sweeps are every 30 minutes; the one at 1440 comes a minute early.
        assert!(
            use_at(&mut table, 0, minutes(1469)),
            "no full sweep since a day after the last use"
        );
        assert!(
            !use_at(&mut table, 1, minutes(1470)),
            "the full sweep at 1470 minutes took it"
        );
        (0..32).for_each(|_| {
            use_at(&mut table, 0, minutes(1470));
        });
        assert_eq!(table.used, 2, "and the others, of which nobody asked, after some picks");
        assert!(use_at(&mut table, 0, minutes(1471)), "0 was used in between");
    }

    #[test]
    fn idle_time_is_made_up_for() {
        for (idle_minutes, is_known) in [(29, true), (1439, true), (1440, false), (1441, false), (100_000, false)] {
            let mut table = Locality::new();
            use_at(&mut table, 7, minutes(0));
            assert_eq!(
                use_at(&mut table, 7, minutes(idle_minutes)),
                is_known,
                "{idle_minutes} minutes"
            );
        }
    }

    #[test]
    fn a_table_too_large_loses_what_was_not_used_for_six_minutes() {
        let mut table = Locality::new();
        let above = SWEEP_ABOVE as u32 + 300;
        (0..above).for_each(|number| assert!(!use_at(&mut table, number, minutes(0))));
        (0..64).for_each(|_| assert!(use_at(&mut table, 0, minutes(5))));
        assert_eq!(table.used, above as usize, "nothing is idle enough");
        // Checks at 1, 2 … 5 minutes found nothing; the one at 6 does.
        (0..200).for_each(|_| assert!(use_at(&mut table, 0, minutes(7))));
        let gone = above as usize - table.used;
        assert!(
            (400..500).contains(&gone),
            "{gone} instead of 400 and the rest of a bucket"
        );
    }

    #[test]
    fn memory_is_bounded_and_used_again() {
        let mut table = Locality::new();
        let (capacity, all) = (table.entries.capacity(), ENTRY_LIMIT as u32);
        (0..all + 1000).for_each(|number| assert!(!use_at(&mut table, number, minutes(0))));
        assert_eq!((table.used, table.entries.len()), (ENTRY_LIMIT, ENTRY_LIMIT));
        assert!(!use_at(&mut table, all + 999, minutes(0)), "no room to remember it");
        let mut forgotten = 0;
        (0..2000).for_each(|_| {
            table.touch(&address(0), minutes(20), |_| forgotten += 1);
        });
        assert_eq!(table.used + forgotten, ENTRY_LIMIT);
        assert!(forgotten > 0 && !use_at(&mut table, all + 999, minutes(20)));
        assert!(use_at(&mut table, all + 999, minutes(20)), "now there is");
        assert_eq!((table.entries.capacity(), table.entries.len()), (capacity, ENTRY_LIMIT));
    }
}
