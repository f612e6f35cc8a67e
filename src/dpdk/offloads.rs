//! Which work on packets is left to the ports, as far as their drivers offer it: checksums, and telling the hash of a received packet. What a driver does not
//! have is done in software.

use std::sync::atomic::{AtomicBool, Ordering};

use super::ffi;

/// Names and values of offloads that are worth telling.
const RECEIVE: [(&str, u64); 5] = [
    ("IPv4 checksum", ffi::ULVS_RX_IPV4_CKSUM),
    ("TCP checksum", ffi::ULVS_RX_TCP_CKSUM),
    ("UDP checksum", ffi::ULVS_RX_UDP_CKSUM),
    ("RSS hash", ffi::ULVS_RX_RSS_HASH),
    ("scatter", ffi::ULVS_RX_SCATTER),
];
const SEND: [(&str, u64); 5] = [
    ("IPv4 checksum", ffi::ULVS_TX_IPV4_CKSUM),
    ("TCP checksum", ffi::ULVS_TX_TCP_CKSUM),
    ("UDP checksum", ffi::ULVS_TX_UDP_CKSUM),
    ("segments", ffi::ULVS_TX_MULTI_SEGS),
    ("fast free", ffi::ULVS_TX_MBUF_FAST_FREE),
];
const RECEIVED_TRANSPORT: u64 = ffi::ULVS_RX_TCP_CKSUM | ffi::ULVS_RX_UDP_CKSUM;
const SENT_TRANSPORT: u64 = ffi::ULVS_TX_TCP_CKSUM | ffi::ULVS_TX_UDP_CKSUM;

/// Offloads of a port: those that its driver has, or those in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offloads {
    pub receive: u64,
    pub send: u64,
}

/// What all ports and workers have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub workers: u16,
    /// How many pools the ports' frames are of.
    pub pools: usize,
    /// Whether all ports finish checksums: a frame does not know out of which one it will go.
    pub finish_checksums: bool,
}

impl Offloads {
    /// Whether a port with these can finish TCP's and UDP's checksum.
    pub fn finish_checksums(self) -> bool {
        self.send & SENT_TRANSPORT == SENT_TRANSPORT
    }

    /// What of these is used: no more than the packet path has use for, since each further one takes drivers off their fastest way. `may_be_partial`: whether
    /// senders on the same machine may leave checksums to the port.
    pub fn choose(self, common: Common, may_be_partial: bool) -> Offloads {
        let mut receive = ffi::ULVS_RX_IPV4_CKSUM;
        let mut send = 0;
        if common.workers > 1 {
            receive |= ffi::ULVS_RX_RSS_HASH;
        }
        if common.finish_checksums {
            send |= SENT_TRANSPORT;
            // Asked for, the host leaves checksums unfinished, which only pays if nobody here has to finish them.
            if may_be_partial && self.receive & RECEIVED_TRANSPORT == RECEIVED_TRANSPORT {
                receive |= RECEIVED_TRANSPORT;
            }
        }
        // Frames are never shared, and all of one pool: the two conditions of fast free.
        if common.pools == 1 {
            send |= ffi::ULVS_TX_MBUF_FAST_FREE;
        }
        Offloads {
            receive: receive & self.receive,
            send: send & self.send,
        }
    }

    /// The marks of received frames that mean nothing, because the port was not asked for them.
    pub fn distrusted_marks(self) -> u64 {
        let mut marks = 0;
        if self.receive & ffi::ULVS_RX_IPV4_CKSUM == 0 {
            marks |= ffi::ULVS_RX_IP_MASK;
        }
        if self.receive & RECEIVED_TRANSPORT != RECEIVED_TRANSPORT {
            marks |= ffi::ULVS_RX_L4_MASK;
        }
        if self.receive & ffi::ULVS_RX_RSS_HASH == 0 {
            marks |= ffi::ULVS_RX_HAS_HASH;
        }
        marks
    }
}

/// For people.
impl std::fmt::Display for Offloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "on receiving {}, on sending {}",
            names(&RECEIVE, self.receive),
            names(&SEND, self.send)
        )
    }
}

fn names(all: &[(&str, u64)], mask: u64) -> String {
    let of: Vec<&str> = all
        .iter()
        .filter(|(_, bit)| mask & bit != 0)
        .map(|(name, _)| *name)
        .collect();
    if of.is_empty() {
        "nothing".to_owned()
    } else {
        of.join(", ")
    }
}

/// Of the whole process, as DPDK is. Set before the first worker runs.
static PORTS_FINISH_CHECKSUMS: AtomicBool = AtomicBool::new(false);

/// Says whether all ports finish the checksums that frames leave to them.
pub(super) fn let_ports_finish_checksums(they_can: bool) {
    PORTS_FINISH_CHECKSUMS.store(they_can, Ordering::Relaxed);
}

/// Whether they do.
#[inline(always)]
pub(super) fn ports_finish_checksums() -> bool {
    PORTS_FINISH_CHECKSUMS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offloads = Offloads {
        receive: u64::MAX,
        send: u64::MAX,
    };

    fn common(workers: u16, finish_checksums: bool) -> Common {
        Common {
            workers,
            pools: 1,
            finish_checksums,
        }
    }

    #[test]
    fn only_what_is_of_use_is_asked_for() {
        let told = |workers, finish, may_be_partial| ALL.choose(common(workers, finish), may_be_partial).to_string();
        assert_eq!(told(1, false, true), "on receiving IPv4 checksum, on sending fast free");
        assert_eq!(
            told(2, true, false),
            "on receiving IPv4 checksum, RSS hash, on sending TCP checksum, UDP checksum, fast free"
        );
        assert_eq!(
            told(1, true, true),
            "on receiving IPv4 checksum, TCP checksum, UDP checksum, on sending TCP checksum, UDP checksum, fast free"
        );
        let two_pools = Common {
            pools: 2,
            ..common(1, false)
        };
        assert_eq!(ALL.choose(two_pools, false).send, 0);
    }

    #[test]
    fn nothing_is_asked_of_a_driver_that_has_nothing() {
        let nothing = Offloads::default();
        assert!(!nothing.finish_checksums());
        assert_eq!(nothing.choose(common(4, true), true), nothing);
        assert_eq!(nothing.to_string(), "on receiving nothing, on sending nothing");
        let half = Offloads {
            send: ffi::ULVS_TX_TCP_CKSUM,
            ..nothing
        };
        assert!(!half.finish_checksums());
    }

    #[test]
    fn marks_that_were_not_asked_for_are_distrusted() {
        let all = ffi::ULVS_RX_IP_MASK | ffi::ULVS_RX_L4_MASK | ffi::ULVS_RX_HAS_HASH;
        assert_eq!(Offloads::default().distrusted_marks(), all);
        assert_eq!(ALL.distrusted_marks(), 0);
        let one_of_two = Offloads {
            receive: ffi::ULVS_RX_TCP_CKSUM,
            send: 0,
        };
        assert_eq!(one_of_two.distrusted_marks(), all);
    }
}
