//! The words of the file for the values of the program, spelled as in ipvsadm where ipvsadm has a word.

use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, GueChecksum, SchedulerFlags};
use ulvs_dataplane::steering::RssFields;

use super::model::{Backend, HugePages, Idle, PortMode, Protocol, ZeroCopy};

/// The words of one setting, with the value each stands for. The first is what an unreadable value is taken for while the rest
/// of the file is checked.
pub type Words<T, const N: usize> = [(&'static str, T); N];

/// Only the words, for the table of keys.
pub const fn words<T, const N: usize>(pairs: &Words<T, N>) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = pairs[at].0;
        at += 1;
    }
    words
}

/// `director.backend`
pub const BACKENDS: Words<Backend, 2> = [("af_xdp", Backend::AfXdp), ("dpdk", Backend::Dpdk)];

/// `dpdk.huge_pages`
pub const HUGE_PAGES: Words<HugePages, 3> = [
    ("auto", HugePages::Auto),
    ("on", HugePages::On),
    ("off", HugePages::Off),
];

/// `director.idle`
pub const IDLES: Words<Idle, 2> = [("sleep", Idle::Sleep), ("poll", Idle::Poll)];

/// `port.mode`
pub const PORT_MODES: Words<PortMode, 3> = [
    ("auto", PortMode::Auto),
    ("native", PortMode::Native),
    ("generic", PortMode::Generic),
];

/// `port.zero_copy`
pub const ZERO_COPIES: Words<ZeroCopy, 3> = [("auto", ZeroCopy::Auto), ("on", ZeroCopy::On), ("off", ZeroCopy::Off)];

/// `port.rss`
pub const RSS_FIELDS: Words<RssFields, 3> = [
    ("tuple", RssFields::Tuple),
    ("source", RssFields::Source),
    ("destination", RssFields::Destination),
];

/// `service.protocol`
pub const PROTOCOLS: Words<Protocol, 3> = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// `service.scheduler`
pub const SCHEDULERS: Words<SchedulerKind, { SchedulerKind::ALL.len() }> = {
    let mut words = [("", SchedulerKind::Rr); SchedulerKind::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = (SchedulerKind::ALL[at].name(), SchedulerKind::ALL[at]);
        at += 1;
    }
    words
};

/// What a word of `scheduler_flags` switches on, and for which scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlagWord {
    /// The scheduler it belongs to.
    pub scheduler: SchedulerKind,
    /// The flag it sets.
    pub sets: SchedulerFlags,
}

const PORT: SchedulerFlags = SchedulerFlags {
    fallback: false,
    port: true,
};
const FALLBACK: SchedulerFlags = SchedulerFlags {
    fallback: true,
    port: false,
};

/// `service.scheduler_flags`, in ipvsadm's order
pub const SCHEDULER_FLAGS: Words<FlagWord, 5> = [
    (
        "sh-fallback",
        FlagWord {
            scheduler: SchedulerKind::Sh,
            sets: FALLBACK,
        },
    ),
    (
        "sh-port",
        FlagWord {
            scheduler: SchedulerKind::Sh,
            sets: PORT,
        },
    ),
    (
        "mh-fallback",
        FlagWord {
            scheduler: SchedulerKind::Mh,
            sets: FALLBACK,
        },
    ),
    (
        "mh-port",
        FlagWord {
            scheduler: SchedulerKind::Mh,
            sets: PORT,
        },
    ),
    (
        "conhash-port",
        FlagWord {
            scheduler: SchedulerKind::Conhash,
            sets: PORT,
        },
    ),
];

/// `service.method`, `service.server.method`
pub const METHODS: Words<ForwardingMethod, 4> = [
    ("nat", ForwardingMethod::Nat),
    ("dr", ForwardingMethod::DirectRouting),
    ("tun", ForwardingMethod::Tunnel),
    ("fullnat", ForwardingMethod::FullNat),
];

/// A kind of tunnel, without what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelWord {
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation
    Gue,
    /// Generic routing encapsulation
    Gre,
}

/// `service.tunnel`, `service.server.tunnel`
pub const TUNNELS: Words<TunnelWord, 3> = [
    ("ipip", TunnelWord::Ipip),
    ("gue", TunnelWord::Gue),
    ("gre", TunnelWord::Gre),
];

/// `service.tunnel_checksum`, `service.server.tunnel_checksum`
pub const TUNNEL_CHECKSUMS: Words<GueChecksum, 3> = [
    ("none", GueChecksum::None),
    ("full", GueChecksum::Full),
    ("remote", GueChecksum::Remote),
];

/// `service.client_address`
pub const CLIENT_ADDRESSES: Words<ClientAddress, 3> = [
    ("hidden", ClientAddress::Hidden),
    ("toa", ClientAddress::Toa),
    ("proxy_v2", ClientAddress::ProxyV2),
];

/// The word for a value.
pub fn word_of<T: PartialEq>(pairs: &[(&'static str, T)], value: T) -> &'static str {
    pairs
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("?", |(word, _)| word)
}

/// The scheduler's name as in ipvsadm and in the file.
pub fn scheduler_name(scheduler: SchedulerKind) -> &'static str {
    word_of(&SCHEDULERS, scheduler)
}

/// The forwarding method's name as in the file.
pub fn method_name(method: ForwardingMethod) -> &'static str {
    word_of(&METHODS, method)
}

/// The name in the file of how servers learn the client's address.
pub fn client_address_name(client_address: ClientAddress) -> &'static str {
    word_of(&CLIENT_ADDRESSES, client_address)
}

/// What a flag of `scheduler` sets, by its name in ipvsadm and in the file, or by its number (`flag-1`, `flag-2`). `None` if the scheduler
/// has no such flag.
pub fn scheduler_flag(scheduler: SchedulerKind, name: &str) -> Option<SchedulerFlags> {
    let mut own = SCHEDULER_FLAGS.iter().filter(|(_, flag)| flag.scheduler == scheduler);
    let (_, flag) = own.find(|(word, flag)| match name {
        "flag-1" => flag.sets.fallback,
        "flag-2" => flag.sets.port,
        name => *word == name,
    })?;
    Some(flag.sets)
}

/// The names of the flags that are set, as in ipvsadm and in the file; none for a scheduler that has no flags.
pub fn scheduler_flag_names(scheduler: SchedulerKind, flags: SchedulerFlags) -> Vec<&'static str> {
    let is_set = |sets: SchedulerFlags| (flags.port && sets.port) || (flags.fallback && sets.fallback);
    let mine = |flag: &FlagWord| flag.scheduler == scheduler && is_set(flag.sets);
    SCHEDULER_FLAGS
        .iter()
        .filter(|(_, flag)| mine(flag))
        .map(|(word, _)| *word)
        .collect()
}
