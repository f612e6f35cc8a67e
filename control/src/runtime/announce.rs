//! Gratuitous ARP and unsolicited neighbour advertisements for the addresses that the director answers for: at start, when a reload adds
//! them or they are taken back, and twice more for whoever missed the first.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ulvs_dataplane::address::Address;
use ulvs_dataplane::snapshot::{Interface, OwnedAddress};

use super::workers::Workers;
use crate::neighbor::announcement;

/// When, after the start or reload. keepalived sends a second batch after five seconds (`garp_master_delay`); switches that just learnt of a link want one sooner.
const AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)];
/// Frames per reading of the mailboxes: thousands of addresses are spread over time.
const AT_ONCE: usize = 16;

/// What is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Announcements(VecDeque<(Instant, Address, usize)>);

impl Announcements {
    /// Plans the announcements of these addresses on all interfaces, besides what is still to be sent.
    pub(super) fn begin(&mut self, now: Instant, owned: &BTreeMap<Address, OwnedAddress>, interfaces: &[Interface]) {
        for after in AFTER {
            for address in owned.keys() {
                self.0
                    .extend((0..interfaces.len()).map(|interface| (now + after, *address, interface)));
            }
        }
        // The front is what is due first. The sort is stable: addresses keep their order.
        self.0.make_contiguous().sort_by_key(|(due, _, _)| *due);
    }

    /// Takes back what is planned for all other addresses.
    pub(super) fn forget_others(&mut self, owned: &BTreeMap<Address, OwnedAddress>) {
        self.0.retain(|(_, address, _)| owned.contains_key(address));
    }

    /// Takes back all that is planned.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self, now: Instant, interfaces: &[Interface], workers: &mut Workers) {
        for _ in 0..AT_ONCE {
            if self.0.front().is_none_or(|(due, _, _)| *due > now) {
                return;
            }
            let Some((_, address, interface)) = self.0.pop_front() else {
                return;
            };
            if let Some(interface) = interfaces.get(interface) {
                workers.send(interface.port, announcement(address, interface.mac, interface.vlan));
            }
        }
    }
}
