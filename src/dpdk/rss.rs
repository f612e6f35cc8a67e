//! How a port spreads received packets over its queues (receive side scaling): the key of the Toeplitz hash and the table from hash to queue.
//!
//! Both are set by us on every port that takes them, so that the director can compute which worker a packet will arrive at.

use tracing::warn;
use ulvs_dataplane::steering::{self, RssFields};

use super::error::reason;
use super::ffi;

/// What a port's card does with the director's key and table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssFacts {
    /// There is one queue only.
    OneQueue,
    /// The port spreads by our key and table, over these fields: the queue of a packet, which is also the worker, can be computed.
    Ours(RssFields),
    /// It spreads in its own way, or not at all; frames that arrive at the wrong worker are redirected.
    Unknown,
}

impl RssFacts {
    /// What follows for the operator, if packets arrive at other workers than `wanted` says.
    pub(super) fn warning(self, driver: &str, wanted: RssFields) -> Option<String> {
        match self {
            RssFacts::OneQueue => None,
            RssFacts::Ours(fields) if fields == wanted => None,
            RssFacts::Ours(fields) => Some(format!(
                "its driver ({driver}) cannot hash {} as rss asks, so it hashes {}; packets arrive at any worker and are handed over to \
                 their own: give the director a card that can, or set rss to \"tuple\" on every port if no service uses nat servers",
                words(wanted),
                words(fields)
            )),
            RssFacts::Unknown => Some(format!(
                "its driver ({driver}) lets nobody choose how packets are spread over the queues; those that arrive at the wrong worker are redirected"
            )),
        }
    }
}

impl std::fmt::Display for RssFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RssFacts::OneQueue => f.write_str("one queue, no RSS"),
            RssFacts::Ours(fields) => write!(f, "RSS by our key and table over {}", words(*fields)),
            RssFacts::Unknown => f.write_str("RSS as the driver does it"),
        }
    }
}

fn words(fields: RssFields) -> &'static str {
    match fields {
        RssFields::Tuple => "addresses and ports of both sides",
        RssFields::Source => "the source alone",
        RssFields::Destination => "the destination alone",
    }
}

/// The RSS part of `rte_eth_dev_info`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability {
    pub key_bytes: u8,
    pub table_entries: u16,
    pub hash_types: u64,
}

impl Capability {
    /// What the card can be told to hash, of what is wanted: one side only if it can choose one, else both.
    pub fn fields(self, wanted: RssFields) -> RssFields {
        let one_side = one_side(wanted);
        if self.hash_types & one_side == one_side {
            wanted
        } else {
            RssFields::Tuple
        }
    }

    /// The packet types to hash: addresses and ports of TCP and UDP, addresses of the rest; of one side where that is wanted and possible.
    pub fn types(self, wanted: RssFields) -> u64 {
        let packets = (ffi::ULVS_RSS_IP | ffi::ULVS_RSS_TCP | ffi::ULVS_RSS_UDP) & self.hash_types;
        if packets == 0 {
            return 0;
        }
        packets | one_side(self.fields(wanted))
    }

    /// Whether a port with these can spread by our key and table.
    pub fn suffices(self, workers: u16) -> bool {
        let entries = steering::entries(u8::try_from(workers).unwrap_or(u8::MAX)) as u16;
        let ports_count = self.hash_types & (ffi::ULVS_RSS_TCP | ffi::ULVS_RSS_UDP) != 0;
        // The card takes the hash modulo its own table's size; that must leave our modulo as it was.
        let table_fits = self.table_entries > 0
            && (self.table_entries % entries == 0 || self.table_entries % workers == 0 && entries % workers == 0);
        ports_count && table_fits && (self.key_bytes == 0 || self.key_bytes >= 40)
    }
}

/// The flags that leave one side out of the hash.
fn one_side(fields: RssFields) -> u64 {
    match fields {
        RssFields::Tuple => 0,
        RssFields::Source => ffi::ULVS_RSS_SOURCE_ONLY,
        RssFields::Destination => ffi::ULVS_RSS_DESTINATION_ONLY,
    }
}

/// Programs key and table of a started port.
pub(super) fn program(port: u16, name: &str, wanted: RssFields, capability: Capability, workers: u16) -> RssFacts {
    if workers == 1 {
        return RssFacts::OneQueue;
    }
    if !capability.suffices(workers) {
        return RssFacts::Unknown;
    }
    let mut key = steering::key_of_length(capability.key_bytes.max(40).into());
    // Since 23.11 there is a further field, for which its default is right.
    #[allow(clippy::needless_update)]
    let mut hash = ffi::rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: key.len() as u8,
        rss_hf: capability.types(wanted),
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
    RssFacts::Ours(capability.fields(wanted))
}

/// The table of a card with so many entries, as DPDK takes it: the queue of each, which is also the worker.
pub(super) fn table(entries: u16, workers: u16) -> Vec<ffi::rte_eth_rss_reta_entry64> {
    let group = ffi::ULVS_RETA_GROUP as u16;
    let groups = 0..entries.div_ceil(group);
    groups
        .map(|number| {
            let mut one = ffi::rte_eth_rss_reta_entry64::default();
            for place in 0..group.min(entries - number * group) {
                one.mask |= 1 << place;
                let entry = usize::from(number * group + place);
                let workers = u8::try_from(workers).unwrap_or(u8::MAX);
                one.reta[usize::from(place)] = steering::worker_of_entry(entry, workers).into();
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
    fn one_side_is_hashed_where_the_card_can_choose_it() {
        let all = capability(40, 128);
        let both = Capability {
            hash_types: !(ffi::ULVS_RSS_SOURCE_ONLY | ffi::ULVS_RSS_DESTINATION_ONLY),
            ..all
        };
        for (wanted, bits) in [
            (RssFields::Tuple, 0),
            (RssFields::Source, ffi::ULVS_RSS_SOURCE_ONLY),
            (RssFields::Destination, ffi::ULVS_RSS_DESTINATION_ONLY),
        ] {
            assert_eq!(all.fields(wanted), wanted);
            assert_eq!(all.types(wanted), all.types(RssFields::Tuple) | bits);
            assert_eq!(RssFacts::Ours(all.fields(wanted)).warning("d", wanted), None);
            assert_eq!(both.fields(wanted), RssFields::Tuple);
            assert_eq!(both.types(wanted), all.types(RssFields::Tuple));
        }
        // Half of it, the address without the port, is not enough.
        let addresses_only = Capability {
            hash_types: all.types(RssFields::Tuple)
                | ffi::ULVS_RSS_SOURCE_ONLY & ffi::ULVS_RSS_SOURCE_ONLY.wrapping_neg(),
            ..all
        };
        assert_eq!(addresses_only.fields(RssFields::Source), RssFields::Tuple);
        let told = RssFacts::Ours(RssFields::Tuple)
            .warning("net_ice", RssFields::Source)
            .expect("a warning");
        assert!(
            told.contains("net_ice") && told.contains("cannot hash the source alone") && told.contains("handed over"),
            "{told}"
        );
    }
}
