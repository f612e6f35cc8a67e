//! The seam between the packet machine and whatever carries frames: DPDK queues, AF_XDP sockets, memory.

pub mod memory;

/// A NIC port, counted from 0 in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u8);

/// Frames handled in one go.
pub const BURST: usize = 64;

/// Bytes that every received or allocated frame keeps free in front of its first byte: room for an outer IPv6 header, a VLAN tag, a
/// PROXY header and an IPv4 to IPv6 change at once.
pub const HEADROOM: usize = 128;

/// There is no room for that many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// What the port found out about the IPv4 header checksum of a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpChecksum {
    /// Nothing.
    #[default]
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// What the port found out about the TCP or UDP checksum of a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChecksum {
    /// Nothing.
    #[default]
    Unknown,
    /// It is complete.
    Complete,
    /// The data are sound, but the sender on this machine left the checksum to hardware: it is that of the pseudo-header.
    Partial,
}

/// What the port found out about the checksums of a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedChecksums {
    /// The IPv4 header's.
    pub ip: IpChecksum,
    /// TCP's or UDP's.
    pub transport: TransportChecksum,
}

/// Where the checksum stands that [`Frame::leave_checksum`] leaves to the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Bytes in front of the IP header.
    pub link: usize,
    /// Bytes of the IP header with everything up to the transport header.
    pub ip: usize,
    /// IPv4, else IPv6.
    pub is_v4: bool,
    /// TCP, else UDP.
    pub is_tcp: bool,
}

/// One packet buffer. The first segment (`head`) holds at least all headers; what does not fit into it (jumbo frames on multi-buffer
/// backends) hangs behind it and is only ever read.
pub trait Frame: Send {
    /// The bytes of the first segment, from the Ethernet header on.
    fn head(&self) -> &[u8];

    /// The same, to be changed in place.
    fn head_mut(&mut self) -> &mut [u8];

    /// Bytes in all segments.
    fn total_length(&self) -> usize;

    /// Makes the frame `count` bytes longer at the front; the new bytes hold anything.
    ///
    /// # Errors
    /// `NoRoom` when the headroom is smaller than `count`; the frame is unchanged.
    fn push_front(&mut self, count: usize) -> Result<(), NoRoom>;

    /// Takes `count` bytes away from the front. `count` must not exceed the length of the head.
    fn pull_front(&mut self, count: usize);

    /// Sets the length of the head and drops every further segment: how a reply is made in the frame of what it answers.
    ///
    /// # Errors
    /// `NoRoom` when the buffer is smaller than that; the frame is unchanged.
    fn set_length(&mut self, length: usize) -> Result<(), NoRoom>;

    /// The segments behind the head, in order. Empty for an ordinary frame.
    fn tail(&self) -> impl Iterator<Item = &[u8]>;

    /// What the port found out about the checksums when it received the frame.
    #[inline(always)]
    fn checksums(&self) -> ReceivedChecksums {
        ReceivedChecksums::default()
    }

    /// The hash by which the port's card chose the queue that the frame arrived at, if the card tells.
    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        None
    }

    /// Whether [`Frame::leave_checksum`] would take it.
    #[inline(always)]
    fn can_leave_checksum(&self) -> bool {
        false
    }

    /// Has the port compute a transport checksum when it sends the frame, which must not change any more after this. In its place stands the sum of the
    /// pseudo-header. False: the port cannot, and nothing has happened.
    #[inline(always)]
    fn leave_checksum(&mut self, _unfinished: Unfinished) -> bool {
        false
    }
}

/// All ports as one worker sees them: its queue of each, and the pool of frames they share.
///
/// No call waits, except [`Io::wait`]. Frames are moved, never copied: each frame that `receive` or `allocate` gave out must come back through
/// `transmit` or `free`.
pub trait Io {
    /// What a frame is here.
    type Frame: Frame;

    /// Called once, on the worker's own thread, before anything else.
    fn begin(&mut self) {}

    /// How many ports there are.
    fn port_count(&self) -> usize;

    /// Appends at most [`BURST`] frames that arrived on `port` to `into` (which has room for them).
    fn receive(&mut self, port: PortIndex, into: &mut Vec<Self::Frame>);

    /// Sends the frames out of `port`, in order, and empties `frames`. What the queue has no room for is freed. Returns how many were
    /// accepted by the port.
    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<Self::Frame>) -> usize;

    /// An empty frame (length 0) with [`HEADROOM`], or `None` when the pool is empty.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Gives a frame back to the pool.
    fn free(&mut self, frame: Self::Frame);

    /// Hands a frame to the kernel's side of `port`. Where the backend has no such way (AF_XDP's filter has already kept back what is the kernel's), it is freed.
    fn punt(&mut self, _port: PortIndex, frame: Self::Frame) {
        self.free(frame);
    }

    /// Serves completion and refill rings and wakes the kernel where it asks for it; called once per loop, also when idle.
    fn housekeeping(&mut self);

    /// Frames in the pool now, and frames that this worker has in all: how far it is from running dry.
    fn frames(&self) -> (usize, usize);

    /// Sleeps until a port has frames or `milliseconds` are over. Only called when the configuration allows a worker to sleep.
    fn wait(&mut self, milliseconds: u32);
}
