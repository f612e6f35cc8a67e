//! What the parts of the file mean together: names and addresses that repeat, servers that a service cannot reach, limits.
//!
//! The checks run on whatever could be read. A check that something is *missing* trusts only parts that were read completely.

mod addresses;
mod limits;
mod ports;
mod servers;
mod services;

use std::collections::HashMap;
use std::hash::Hash;

use ulvs_dataplane::address::Family;

use super::error::Findings;
use super::parse::Entries;

pub use limits::MH_TABLE_SIZE;

/// Checks the whole file.
pub fn validate(entries: &Entries, findings: &mut Findings) {
    ports::check(entries, findings);
    services::check(entries, findings);
    for service in &entries.services {
        servers::check(service, findings);
    }
    addresses::check(entries, findings);
    limits::check(entries, findings);
}

/// Calls `report(again, first)` for every item whose key was seen before. Items without a key are passed over.
pub fn each_repeat<'a, T: 'a, K: Eq + Hash>(
    items: impl IntoIterator<Item = &'a T>,
    key_of: impl Fn(&T) -> Option<K>,
    mut report: impl FnMut(&'a T, &'a T),
) {
    let mut seen: HashMap<K, &'a T> = HashMap::new();
    for item in items {
        let Some(key) = key_of(item) else { continue };
        match seen.get(&key) {
            Some(first) => report(item, first),
            None => {
                seen.insert(key, item);
            }
        }
    }
}

/// The family in an operator's words.
fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
