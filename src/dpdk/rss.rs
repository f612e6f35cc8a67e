//! How a port spreads received packets over its queues (receive side scaling): the key of the Toeplitz hash and the table from hash to queue.
//!
//! Both are set by us on every port that takes them, so that the director can compute which worker a packet will arrive at.

use tracing::warn;
use ulvs_dataplane::steering;

use super::error::reason;
use super::ffi;

/// What the ports are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssSetup {
    /// The key of the Toeplitz hash. 40 bytes reach over the longest tuple, two IPv6 addresses and two ports.
    pub key: [u8; 40],
}

impl Default for RssSetup {
    /// The key by which workers compute who owns a packet.
    fn default() -> RssSetup {
        RssSetup { key: steering::KEY }
    }
}

impl RssSetup {
    /// The queue, which is also the worker, for an entry of the table.
    pub fn queue_of(entry: u16, workers: u16) -> u16 {
        let workers = u8::try_from(workers).unwrap_or(u8::MAX);
        steering::worker_of_entry(usize::from(entry), workers).into()
    }

    /// The key as long as a card wants it. What is beyond 40 bytes never meets a bit of a tuple.
    fn key_of_length(&self, length: u8) -> Vec<u8> {
        self.key.iter().copied().cycle().take(usize::from(length)).collect()
    }
}

/// What a port does with [`RssSetup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssFacts {
    /// There is one queue only.
    OneQueue,
    /// The port spreads by our key and table: the worker of a packet is `queue_of(hash, workers)`.
    Ours,
    /// It spreads in its own way, or not at all; frames that arrive at the wrong worker are redirected.
    Unknown,
}

/// The RSS part of `rte_eth_dev_info`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability {
    pub key_bytes: u8,
    pub table_entries: u16,
    pub hash_types: u64,
}

impl Capability {
    /// The packet types to hash: addresses and ports of TCP and UDP, addresses of the rest.
    pub fn wanted_types(self) -> u64 {
        (ffi::ULVS_RSS_IP | ffi::ULVS_RSS_TCP | ffi::ULVS_RSS_UDP) & self.hash_types
    }

    /// Whether a port with these can spread by our key and table.
    pub fn suffices(self, workers: u16) -> bool {
        let entries = steering::entries(u8::try_from(workers).unwrap_or(u8::MAX)) as u16;
        let ports_count = self.wanted_types() & (ffi::ULVS_RSS_TCP | ffi::ULVS_RSS_UDP) != 0;
        // The card takes the hash modulo its own table's size; that must leave our modulo as it was.
        let table_fits = self.table_entries > 0
            && (self.table_entries % entries == 0 || self.table_entries % workers == 0 && entries % workers == 0);
        ports_count && table_fits && (self.key_bytes == 0 || self.key_bytes >= 40)
    }
}

/// Programs key and table of a started port.
pub(super) fn program(port: u16, name: &str, setup: &RssSetup, capability: Capability, workers: u16) -> RssFacts {
    if workers == 1 {
        return RssFacts::OneQueue;
    }
    if !capability.suffices(workers) {
        return RssFacts::Unknown;
    }
    let mut key = setup.key_of_length(capability.key_bytes.max(40));
    // Since 23.11 there is a further field, for which its default is right.
    #[allow(clippy::needless_update)]
    let mut hash = ffi::rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: key.len() as u8,
        rss_hf: capability.wanted_types(),
        ..Default::default()
    };
    // SAFETY: key and structure live until the call returns.
    let status = unsafe { ffi::rte_eth_dev_rss_hash_update(port, &mut hash) };
    if status != 0 {
        warn!(
            "port {name}: its driver refuses our RSS key ({}); frames that arrive at the wrong worker are redirected",
            reason(status)
        );
        return RssFacts::Unknown;
    }
    let mut table = table(capability.table_entries, workers);
    // SAFETY: the table has an entry for each of the port's, in groups of 64.
    let status = unsafe { ffi::rte_eth_dev_rss_reta_update(port, table.as_mut_ptr(), capability.table_entries) };
    if status != 0 {
        warn!(
            "port {name}: its driver refuses our RSS table ({}); frames that arrive at the wrong worker are redirected",
            reason(status)
        );
        return RssFacts::Unknown;
    }
    RssFacts::Ours
}

fn table(entries: u16, workers: u16) -> Vec<ffi::rte_eth_rss_reta_entry64> {
    let group = ffi::ULVS_RETA_GROUP as u16;
    let groups = 0..entries.div_ceil(group);
    groups
        .map(|number| {
            let mut one = ffi::rte_eth_rss_reta_entry64::default();
            for place in 0..group.min(entries - number * group) {
                one.mask |= 1 << place;
                one.reta[usize::from(place)] = RssSetup::queue_of(number * group + place, workers);
            }
            one
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(key_bytes: u8, table_entries: u16) -> Capability {
        Capability {
            key_bytes,
            table_entries,
            hash_types: u64::MAX,
        }
    }

    #[test]
    fn every_table_agrees_with_the_128_buckets() {
        for (entries, workers) in [(128, 3), (512, 3), (64, 4), (256, 7)] {
            assert!(capability(40, entries).suffices(workers), "{entries} {workers}");
            let table = table(entries, workers);
            for hash in [0u32, 1, 63, 64, 127, 128, 5000, u32::MAX] {
                let entry = (hash % u32::from(entries)) as usize;
                let queue = table[entry / 64].reta[entry % 64];
                assert_eq!(
                    u32::from(queue),
                    (hash % 128) % u32::from(workers),
                    "{entries} {workers} {hash}"
                );
            }
        }
    }

    #[test]
    fn a_table_that_cannot_agree_is_not_used() {
        assert!(!capability(40, 64).suffices(3));
        assert!(!capability(40, 0).suffices(2));
        assert!(!capability(16, 128).suffices(2));
        let no_ports = Capability {
            hash_types: ffi::ULVS_RSS_IP,
            ..capability(40, 128)
        };
        assert!(!no_ports.suffices(2));
    }

    #[test]
    fn a_longer_key_begins_with_ours() {
        let setup = RssSetup::default();
        assert_eq!(setup.key_of_length(40), setup.key);
        let long = setup.key_of_length(52);
        assert_eq!((&long[..40], long.len()), (&setup.key[..], 52));
    }
}
