//! The table and its wheel against a list that is searched from one end to the other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::service::protocol;

const CAPACITY: usize = 64;
const SECRETS: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0x2545_f491_4f6c_dd1d,
    0xd6e8_feb8_6659_fd93,
];
/// Slices of 4,096 ticks that catch up with anything the steps below let pass.
const CAUGHT_UP: u32 = 1 << 14;

fn connection(number: u32, expires: u32) -> Connection {
    let methods = [
        ForwardingMethod::Nat,
        ForwardingMethod::DirectRouting,
        ForwardingMethod::FullNat,
    ];
    Connection {
        client: Address::v4([198, 51, 100, (number % 250) as u8]),
        client_port: 1024 + (number / 250) as u16,
        virtual_address: Address::v4([203, 0, 113, 1]),
        virtual_port: 80,
        server: Address::v4([10, 0, 0, 1]),
        server_port: 8080,
        local: Address::v4([10, 0, 0, 200]),
        local_port: number as u16,
        protocol: protocol::TCP,
        method: methods[number as usize % methods.len()],
        expires,
        ..Connection::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Enters a connection that ends in so many ticks.
    Insert(u32),
    /// Moves the deadline of one of the connections to so many ticks from now.
    Hit(usize, u32),
    Remove(usize),
    /// Lets time pass, then looks for what has ended, with a budget.
    Pass(u32, u32),
}

/// Ticks of all sizes: now, soon, and about each size at which the wheel changes from one level to the next.
fn ticks() -> impl Strategy<Value = u32> {
    prop_oneof![
        400 => 0u32..4,
        400 => 0u32..300,
        200 => 250u32..260,
        200 => 65_000u32..66_100,
        1 => (1u32 << 24) - 40_000..(1 << 24) + 40_000,
        200 => 0u32..100_000,
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => ticks().prop_map(Step::Insert),
        5 => (any::<usize>(), ticks()).prop_map(|(which, ticks)| Step::Hit(which, ticks)),
        1 => any::<usize>().prop_map(Step::Remove),
        4 => (ticks(), 0u32..6).prop_map(|(ticks, budget)| Step::Pass(ticks, budget)),
    ];
    proptest::collection::vec(step, 1..120)
}

/// The table, and the list: number of each connection, place in the table, deadline.
struct Both {
    table: Table,
    list: BTreeMap<u32, (ConnectionIndex, u32)>,
    now: u32,
    next: u32,
}

impl Both {
    fn nth(&self, which: usize) -> Option<u32> {
        let count = self.list.len();
        (count > 0).then(|| *self.list.keys().nth(which % count).unwrap())
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Insert(ticks) => {
                let expires = self.now.wrapping_add(ticks);
                let inserted = self.table.insert(connection(self.next, expires));
                prop_assert_eq!(inserted.is_ok(), self.list.len() < CAPACITY);
                if let Ok(index) = inserted {
                    self.list.insert(self.next, (index, expires));
                }
                self.next += 1;
            }
            Step::Hit(which, ticks) => {
                if let Some(number) = self.nth(which) {
                    let expires = self.now.wrapping_add(ticks);
                    let entry = self.list.get_mut(&number).unwrap();
                    entry.1 = expires;
                    self.table.set_expiry(entry.0, expires);
                }
            }
            Step::Remove(which) => {
                if let Some(number) = self.nth(which) {
                    let (index, _) = self.list.remove(&number).unwrap();
                    let removed = self.table.remove(index);
                    prop_assert_eq!(removed.inbound_key(), connection(number, 0).inbound_key());
                }
            }
            Step::Pass(ticks, budget) => {
                self.now = self.now.wrapping_add(ticks);
                self.expire(budget)?;
            }
        }
        self.check()
    }

    /// One slice of housekeeping.
    fn expire(&mut self, budget: u32) -> Result<(), TestCaseError> {
        let mut left = budget;
        let mut taken = 0;
        while let Some(ended) = self.table.next_expired(self.now, &mut left) {
            taken += 1;
            let number = u32::from(ended.local_port);
            let (_, expires) = self.list.remove(&number).expect("it was in the table");
            prop_assert_eq!(expires, ended.expires);
            prop_assert!(self.now.wrapping_sub(expires) as i32 >= 0, "ended before its time");
        }
        prop_assert!(taken <= budget, "{} of a budget of {}", taken, budget);
        Ok(())
    }

    /// Slices until the clock is reached: each passes over at most so many ticks, so that is bounded.
    fn catch_up(&mut self, slices: u32) -> Result<(), TestCaseError> {
        for _ in 0..slices {
            self.expire(1000)?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.len(), self.list.len());
        let mut listed = Vec::new();
        let mut cursor = Some(0);
        for _ in 0..=CAPACITY {
            let Some(at) = cursor else { break };
            cursor = self
                .table
                .scan(at, 3, |_place, own| listed.push(u32::from(own.local_port)));
        }
        prop_assert!(cursor.is_none(), "the listing has no end");
        listed.sort_unstable();
        prop_assert!(listed.iter().eq(self.list.keys()), "each connection is listed once");
        for (number, (index, _)) in &self.list {
            let own = connection(*number, 0);
            let found = |key: &Key| self.table.find(self.table.hash(key), key);
            prop_assert_eq!(found(&own.inbound_key()), Some((*index, false)));
            if own.has_outbound() {
                prop_assert_eq!(found(&own.outbound_key()), Some((*index, true)));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Started anywhere, also just before the tick wraps around.
    #[test]
    fn equals_a_list(start in prop_oneof![Just(0u32), (u32::MAX - 1000)..=u32::MAX, any::<u32>()], steps in steps()) {
        let hasher = KeyHasher::new(SECRETS);
        let mut both = Both { table: Table::new(CAPACITY, hasher, start), list: BTreeMap::new(), now: start, next: 0 };
        for step in steps {
            both.apply(step)?;
        }
        // Nothing due is left behind after as many slices as it takes to catch up with the clock.
        both.catch_up(CAUGHT_UP)?;
        for (_, expires) in both.list.values() {
            prop_assert!(both.now.wrapping_sub(*expires) as i32 <= -1, "one that is due is left");
        }
        // And after all deadlines everything has come back.
        let farthest = both.list.values().map(|(_, expires)| expires.wrapping_sub(both.now)).max();
        both.now = both.now.wrapping_add(farthest.unwrap_or(0));
        both.catch_up(CAUGHT_UP)?;
        prop_assert_eq!(both.table.len(), 0);
        for number in 0..CAPACITY as u32 {
            prop_assert!(both.table.insert(connection(number, both.now)).is_ok(), "every place is free again");
        }
    }
}

/// A machine that slept for a month catches up in slices, and what ended meanwhile ends in order of its deadlines.
#[test]
fn a_long_sleep_is_made_up_for_in_slices() {
    let mut table = Table::new(CAPACITY, KeyHasher::new(SECRETS), 0);
    let deadlines = [5u32, 255, 256, 257, 65_535, 65_536, 1 << 24, (1 << 24) + 70_000];
    for (number, expires) in deadlines.into_iter().enumerate() {
        table.insert(connection(number as u32, expires)).unwrap();
    }
    let month = 31 * 24 * 60 * 60 * 15;
    let mut ended = Vec::new();
    let mut slices = 0;
    while ended.len() < deadlines.len() {
        slices += 1;
        let mut budget = 128;
        while let Some(connection) = table.next_expired(month, &mut budget) {
            ended.push(connection.expires);
        }
        assert!(slices <= month / 4096 + 10, "{ended:?} after {slices} slices");
    }
    assert_eq!(ended, deadlines);
}

#[test]
fn the_memory_of_a_table_is_known_before_it_is_made() {
    for capacity in [0, 16, 1000, 1 << 16, 100_000] {
        let table = Table::new(capacity, KeyHasher::new(SECRETS), 0);
        assert_eq!(Table::memory_for(capacity), table.memory(), "{capacity}");
    }
}
