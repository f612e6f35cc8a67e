//! What a worker counts. One writer each (the worker), read by anybody at any time; no counter is ever reset, so that rates survive.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::service::ServerSlot;
use crate::verdict::{DropReason, PuntReason, ReplyKind, Verdict, named};

named! {
    /// What happens besides verdicts.
    Event {
        Received = "received", "Frames that came in.";
        Transmitted = "transmitted", "Frames sent on (verdict).";
        Redirected = "redirected", "Frames handed to the worker that owns the connection (verdict).";
        RedirectedIn = "redirected_in", "Frames taken over from other workers.";
        Generated = "generated", "Further frames that one verdict made: fragments, announcements.";
        TransmitFailed = "transmit_failed", "Frames that the port had no room for.";
        ConnectionsOpened = "connections_opened", "Connections entered into the table.";
        ConnectionsExpired = "connections_expired", "Connections removed by their timer.";
        ConnectionsReused = "connections_reused", "Connections replaced because the client began a new one from the same port.";
        ConnectionsLeftServer = "connections_left_server", "Connections ended because their server had left the service (expire_nodest_conn).";
        TemplatesOpened = "templates_opened", "Persistence templates entered into the table.";
        TemplatesExpired = "templates_expired", "Persistence templates removed by their timer.";
        PacketsScheduledAlone = "packets_scheduled_alone", "Packets of services with one-packet scheduling that got a server.";
        StatelessForwarded = "stateless_forwarded", "Packets forwarded by consistent hash because the table was full.";
        IcmpErrorsTranslated = "icmp_errors_translated", "ICMP errors about a balanced connection that were delivered.";
        ToaInserted = "toa_inserted", "Packets that carry the client's address as TCP option.";
        ToaNoRoom = "toa_no_room", "Packets whose TCP header had no room for the client's address.";
        ProxyHeaders = "proxy_headers", "PROXY protocol headers inserted.";
        MssClamped = "mss_clamped", "Maximum segment sizes lowered.";
        FragmentsCreated = "fragments_created", "Fragments made of packets too big for the path.";
        NeighbourRequests = "neighbour_requests", "Times that the kernel was asked to resolve a next hop.";
        SnapshotsAdopted = "snapshots_adopted", "Configurations taken over.";
        RedirectFailed = "redirect_failed", "Redirected frames that found the ring to the other worker full.";
        RssDiffers = "rss_differs", "Connections whose first packet a card had hashed otherwise than it was told (key or fields): workers hand packets over.";
        EventsLost = "events_lost", "Messages to the control thread that found the ring full.";
    }
}

/// A counter that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning worker may call this: it is a load and a store, not an atomic addition.
    #[inline(always)]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Replaces the value. Only for the owning worker.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Traffic of one real server through one worker. A line of its own, so that servers of different slots never share one between cores.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServerTraffic {
    /// Connections scheduled to it.
    pub connections: Counter,
    /// Packets from clients.
    pub packets_in: Counter,
    /// Packets to clients.
    pub packets_out: Counter,
    /// IP bytes from clients.
    pub bytes_in: Counter,
    /// IP bytes to clients.
    pub bytes_out: Counter,
}

/// Everything that one worker shows of itself.
#[derive(Debug)]
pub struct Counters {
    events: [Counter; Event::ALL.len()],
    drops: [Counter; DropReason::ALL.len()],
    punts: [Counter; PuntReason::ALL.len()],
    replies: [Counter; ReplyKind::ALL.len()],
    servers: Box<[ServerTraffic]>,
    /// Connections in the table now.
    pub connections: Counter,
    /// Frames that wait for a MAC or a first fragment now.
    pub held: Counter,
    /// Frames in the pool now.
    pub frames_free: Counter,
    /// Frames that the worker has in all.
    pub frames_total: Counter,
    /// Time of the last loop, nanoseconds on the worker's clock: its heartbeat.
    pub heartbeat_ns: Counter,
    /// Loops that found frames, and loops in all: how busy the worker is.
    pub busy_loops: Counter,
    /// See `busy_loops`.
    pub loops: Counter,
    /// Generation of the snapshot that the worker uses.
    pub generation: Counter,
}

fn zeroes<const N: usize>() -> [Counter; N] {
    std::array::from_fn(|_| Counter::default())
}

impl Counters {
    /// All zero, with room for `server_limit` servers.
    pub fn new(server_limit: usize) -> Counters {
        Counters {
            events: zeroes(),
            drops: zeroes(),
            punts: zeroes(),
            replies: zeroes(),
            servers: (0..server_limit).map(|_| ServerTraffic::default()).collect(),
            connections: Counter::default(),
            held: Counter::default(),
            frames_free: Counter::default(),
            frames_total: Counter::default(),
            heartbeat_ns: Counter::default(),
            busy_loops: Counter::default(),
            loops: Counter::default(),
            generation: Counter::default(),
        }
    }

    /// The counter of an event.
    #[inline(always)]
    pub fn event(&self, event: Event) -> &Counter {
        &self.events[event as usize]
    }

    /// The counter of a drop reason.
    #[inline]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.drops[reason as usize]
    }

    /// The counter of a punt reason.
    pub fn punt(&self, reason: PuntReason) -> &Counter {
        &self.punts[reason as usize]
    }

    /// The counter of a kind of reply.
    pub fn reply(&self, kind: ReplyKind) -> &Counter {
        &self.replies[kind as usize]
    }

    /// The traffic of a server.
    #[inline(always)]
    pub fn server(&self, slot: ServerSlot) -> &ServerTraffic {
        &self.servers[slot.0 as usize]
    }

    /// Counts a final verdict. `Held` is none and counts nothing.
    #[inline]
    pub fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Transmit(_) => self.event(Event::Transmitted).add(1),
            Verdict::Reply(kind, _) => self.reply(kind).add(1),
            Verdict::Redirect(_) => self.event(Event::Redirected).add(1),
            Verdict::Punt(reason) => self.punt(reason).add(1),
            Verdict::Drop(reason) => self.dropped(reason).add(1),
            Verdict::Held => {}
        }
    }

    /// The sum over all final verdicts. With the frames held now it equals `received` plus `redirected_in`.
    pub fn verdicts(&self) -> u64 {
        let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
        self.event(Event::Transmitted).get()
            + self.event(Event::Redirected).get()
            + sum(&self.drops)
            + sum(&self.punts)
            + sum(&self.replies)
    }
}
