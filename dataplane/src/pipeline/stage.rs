//! What the stages hand to each other.

use crate::address::Address;
use crate::conn::fragments::DatagramKey;
use crate::conn::index::Reference;
use crate::io::PortIndex;
use crate::parse::{Packet, Parsed};
use crate::snapshot::{InterfaceIndex, Snapshot};
use crate::time::Time;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::MacWord;

/// What all frames of a burst have in common: looked up once.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) port: PortIndex,
    /// The interface of frames without a VLAN tag, and our MAC there.
    pub(super) untagged: Option<(InterfaceIndex, MacWord)>,
    pub(super) may_be_partial: bool,
}

impl Arrival {
    pub(super) fn on(port: PortIndex, snapshot: &Snapshot) -> Arrival {
        let interfaces = &snapshot.interfaces;
        let untagged = interfaces.find(port, None);
        Arrival {
            port,
            untagged: untagged.map(|index| (index, interfaces.get(index).mac.into())),
            may_be_partial: interfaces.has_partial_checksums(port),
        }
    }
}

/// Where a frame came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) port: PortIndex,
    pub(super) interface: InterfaceIndex,
    /// How often it was redirected between workers.
    pub(super) redirected: u8,
    /// A later fragment's ports as another worker found them.
    pub(super) ports: Option<(u16, u16)>,
}

/// What every step needs to know beside the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) snapshot: &'a Snapshot,
    pub(super) origin: Origin,
}

/// A frame between the stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    pub(super) parsed: Parsed,
    pub(super) packet: Packet,
    pub(super) interface: InterfaceIndex,
    pub(super) hash: u64,
    /// What the hash probably leads to.
    pub(super) candidate: Reference,
}

impl Staged {
    pub(super) const EMPTY: Staged = Staged {
        parsed: Parsed::Drop(DropReason::TruncatedFrame),
        packet: Packet::EMPTY,
        interface: InterfaceIndex(0),
        hash: 0,
        candidate: Reference::NONE,
    };
}

/// What a stage made of a frame.
pub(super) enum Outcome {
    /// It is done.
    Done(Verdict),
    /// It has to wait for a neighbour's MAC.
    AwaitNeighbour(InterfaceIndex, Address),
    /// It has to wait for the first fragment of its datagram.
    AwaitFirstFragment(DatagramKey),
    /// For another worker, with a later fragment's ports.
    Redirect(u8, Option<(u16, u16)>),
}

impl From<DropReason> for Outcome {
    fn from(reason: DropReason) -> Outcome {
        Outcome::Done(Verdict::Drop(reason))
    }
}
