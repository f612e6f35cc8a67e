//! The table of keys: every key of the file with its type, range, default and unit. Reading, messages and the check of
//! `config/ulvs.toml` are driven by it.

use std::fmt;

use super::names::{
    BACKENDS, CLIENT_ADDRESSES, IDLES, METHODS, PORT_MODES, PROTOCOLS, SCHEDULER_FLAGS, SCHEDULERS, ZERO_COPIES, words,
};

/// A table of the file and its keys.
#[derive(Debug)]
pub struct Table {
    /// As its header is written.
    pub name: &'static str,
    /// Its keys, in the order in which they are documented.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it is when it is left out.
    pub default: Default,
    /// The unit of its value; empty when it has none.
    pub unit: &'static str,
    /// What it means, in a few words.
    pub doc: &'static str,
    /// A value in TOML, for messages.
    pub example: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number in a range, ends included.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A list of whole numbers in a range, ends included.
    Integers {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A string, or a list of strings.
    TextOrTexts,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// `[table]`
    Table(&'static Table),
    /// `[[table]]`, several times
    Tables(&'static Table),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Flag => write!(f, "true or false"),
            Kind::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Kind::Integers { min, max } => write!(f, "a list of integers from {min} to {max}"),
            Kind::Text => write!(f, "a string"),
            Kind::Texts => write!(f, "a list of strings"),
            Kind::TextOrTexts => write!(f, "a string or a list of strings"),
            Kind::Choice(words) => write!(f, "one of the strings {}", words.join(", ")),
            Kind::Choices(words) => write!(f, "a list of the strings {}", words.join(", ")),
            Kind::Table(table) => write!(f, "the table {}", table.name),
            Kind::Tables(table) => write!(f, "a list of tables, each headed {}", table.name),
        }
    }
}

/// What a key is when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must not be left out.
    Required,
    /// This flag.
    Flag(bool),
    /// This number.
    Integer(u64),
    /// This string.
    Text(&'static str),
    /// Nothing: an empty list, or a table of defaults.
    Empty,
    /// Taken from elsewhere, as the words say.
    None(&'static str),
}

impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Default::Required => write!(f, "required"),
            Default::Flag(flag) => write!(f, "{flag}"),
            Default::Integer(number) => write!(f, "{number}"),
            Default::Text(text) => write!(f, "\"{text}\""),
            Default::Empty => write!(f, "[]"),
            Default::None(from) => write!(f, "{from}"),
        }
    }
}

const BACKEND_WORDS: &[&str] = &words(&BACKENDS);
const IDLE_WORDS: &[&str] = &words(&IDLES);
const PORT_MODE_WORDS: &[&str] = &words(&PORT_MODES);
const ZERO_COPY_WORDS: &[&str] = &words(&ZERO_COPIES);
const PROTOCOL_WORDS: &[&str] = &words(&PROTOCOLS);
const SCHEDULER_WORDS: &[&str] = &words(&SCHEDULERS);
const SCHEDULER_FLAG_WORDS: &[&str] = &words(&SCHEDULER_FLAGS);
const METHOD_WORDS: &[&str] = &words(&METHODS);
const CLIENT_ADDRESS_WORDS: &[&str] = &words(&CLIENT_ADDRESSES);

/// ipvsadm takes no longer timeout than 31 days.
const TIMEOUT: Kind = Kind::Integer {
    min: 1,
    max: 31 * 24 * 3600,
};
/// ipvsadm takes no larger weight.
const WEIGHT: Kind = Kind::Integer { min: 0, max: 65535 };
/// The kernel holds thresholds in a signed 32-bit word.
const THRESHOLD: Kind = Kind::Integer {
    min: 0,
    max: i32::MAX as u64,
};

/// The top of the file.
pub const KEYS_OF_FILE: &Table = &Table {
    name: "the file",
    keys: &[
        Key {
            name: "director",
            kind: Kind::Table(DIRECTOR),
            default: Default::Empty,
            unit: "",
            doc: "the program itself",
            example: "...",
        },
        Key {
            name: "timeouts",
            kind: Kind::Table(TIMEOUTS),
            default: Default::Empty,
            unit: "",
            doc: "when idle connections end",
            example: "...",
        },
        Key {
            name: "port",
            kind: Kind::Tables(PORT),
            default: Default::Empty,
            unit: "",
            doc: "network interfaces to work on",
            example: "...",
        },
        Key {
            name: "local_pool",
            kind: Kind::Tables(LOCAL_POOL),
            default: Default::Empty,
            unit: "",
            doc: "addresses of the director towards fullnat servers",
            example: "...",
        },
        Key {
            name: "service",
            kind: Kind::Tables(SERVICE),
            default: Default::Empty,
            unit: "",
            doc: "virtual services",
            example: "...",
        },
    ],
};

/// `[director]`
pub const DIRECTOR: &Table = &Table {
    name: "[director]",
    keys: &[
        Key {
            name: "backend",
            kind: Kind::Choice(BACKEND_WORDS),
            default: Default::Text("af_xdp"),
            unit: "",
            doc: "how frames are received and sent",
            example: r#""af_xdp""#,
        },
        Key {
            name: "cores",
            kind: Kind::Integers { min: 0, max: 4095 },
            default: Default::Empty,
            unit: "CPU numbers",
            doc: "one worker is pinned to each",
            example: "[2, 3]",
        },
        Key {
            name: "workers",
            kind: Kind::Integer { min: 1, max: 256 },
            default: Default::Integer(1),
            unit: "workers",
            doc: "how many, not pinned, when cores is empty",
            example: "1",
        },
        Key {
            name: "connections",
            kind: Kind::Integer {
                min: 1024,
                max: 134217728,
            },
            default: Default::Integer(1048576),
            unit: "connections",
            doc: "size of the connection table, all workers together",
            example: "1048576",
        },
        Key {
            name: "service_limit",
            kind: Kind::Integer { min: 1, max: 1048576 },
            default: Default::Integer(16384),
            unit: "services",
            doc: "most virtual services",
            example: "16384",
        },
        Key {
            name: "server_limit",
            kind: Kind::Integer { min: 1, max: 4194304 },
            default: Default::Integer(65536),
            unit: "servers",
            doc: "most real servers, all services together",
            example: "65536",
        },
        Key {
            name: "frames",
            kind: Kind::Integer { min: 0, max: 16777216 },
            default: Default::Integer(0),
            unit: "packet buffers per worker and port",
            doc: "0: computed",
            example: "0",
        },
        Key {
            name: "idle",
            kind: Kind::Choice(IDLE_WORDS),
            default: Default::Text("sleep"),
            unit: "",
            doc: "what a worker does when nothing arrives",
            example: r#""sleep""#,
        },
        Key {
            name: "control_socket",
            kind: Kind::Text,
            default: Default::Text("/run/ulvs/ulvs.sock"),
            unit: "",
            doc: "where the command line reaches the director",
            example: r#""/run/ulvs/ulvs.sock""#,
        },
        Key {
            name: "control_group",
            kind: Kind::Text,
            default: Default::Text("root"),
            unit: "",
            doc: "unix group that may use the control socket",
            example: r#""root""#,
        },
    ],
};

/// `[timeouts]`
pub const TIMEOUTS: &Table = &Table {
    name: "[timeouts]",
    keys: &[
        Key {
            name: "tcp",
            kind: TIMEOUT,
            default: Default::Integer(900),
            unit: "seconds",
            doc: "a TCP connection in ESTABLISHED",
            example: "900",
        },
        Key {
            name: "tcp_fin",
            kind: TIMEOUT,
            default: Default::Integer(120),
            unit: "seconds",
            doc: "a TCP connection in FIN_WAIT",
            example: "120",
        },
        Key {
            name: "udp",
            kind: TIMEOUT,
            default: Default::Integer(300),
            unit: "seconds",
            doc: "UDP packets of one client",
            example: "300",
        },
        Key {
            name: "tcp_syn_sent",
            kind: TIMEOUT,
            default: Default::Integer(120),
            unit: "seconds",
            doc: "a TCP connection in SYN_SENT",
            example: "120",
        },
        Key {
            name: "tcp_syn_recv",
            kind: TIMEOUT,
            default: Default::Integer(60),
            unit: "seconds",
            doc: "a TCP connection in SYN_RECV",
            example: "60",
        },
        Key {
            name: "tcp_time_wait",
            kind: TIMEOUT,
            default: Default::Integer(120),
            unit: "seconds",
            doc: "a TCP connection in TIME_WAIT",
            example: "120",
        },
        Key {
            name: "tcp_close",
            kind: TIMEOUT,
            default: Default::Integer(10),
            unit: "seconds",
            doc: "a TCP connection in CLOSE",
            example: "10",
        },
        Key {
            name: "tcp_close_wait",
            kind: TIMEOUT,
            default: Default::Integer(60),
            unit: "seconds",
            doc: "a TCP connection in CLOSE_WAIT",
            example: "60",
        },
        Key {
            name: "tcp_last_ack",
            kind: TIMEOUT,
            default: Default::Integer(30),
            unit: "seconds",
            doc: "a TCP connection in LAST_ACK",
            example: "30",
        },
    ],
};

/// `[[port]]`
pub const PORT: &Table = &Table {
    name: "[[port]]",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Default::None("the interface's name"),
            unit: "",
            doc: "name in counters and messages",
            example: r#""outside""#,
        },
        Key {
            name: "interface",
            kind: Kind::Text,
            default: Default::Required,
            unit: "",
            doc: "kernel network interface",
            example: r#""eth0""#,
        },
        Key {
            name: "mode",
            kind: Kind::Choice(PORT_MODE_WORDS),
            default: Default::Text("auto"),
            unit: "",
            doc: "how the XDP program is attached",
            example: r#""auto""#,
        },
        Key {
            name: "zero_copy",
            kind: Kind::Choice(ZERO_COPY_WORDS),
            default: Default::Text("auto"),
            unit: "",
            doc: "whether the driver writes into our buffers itself",
            example: r#""auto""#,
        },
        Key {
            name: "queues",
            kind: Kind::Integer { min: 0, max: 4096 },
            default: Default::Integer(0),
            unit: "receive queues",
            doc: "how many are used; 0: all that the device has",
            example: "0",
        },
        Key {
            name: "untagged",
            kind: Kind::Flag,
            default: Default::Flag(true),
            unit: "",
            doc: "whether frames without a VLAN tag are taken",
            example: "true",
        },
        Key {
            name: "vlans",
            kind: Kind::Tables(VLAN),
            default: Default::Empty,
            unit: "",
            doc: "VLANs whose tagged frames are taken",
            example: r#"[{ id = 100, interface = "eth0.100" }]"#,
        },
    ],
};

/// `[[port.vlans]]`, usually written inline
pub const VLAN: &Table = &Table {
    name: "[[port.vlans]]",
    keys: &[
        Key {
            name: "id",
            kind: Kind::Integer { min: 1, max: 4094 },
            default: Default::Required,
            unit: "",
            doc: "VLAN id",
            example: "100",
        },
        Key {
            name: "interface",
            kind: Kind::Text,
            default: Default::None("the port's interface"),
            unit: "",
            doc: "kernel interface whose routes and neighbours belong to this VLAN",
            example: r#""eth0.100""#,
        },
    ],
};

/// `[[local_pool]]`
pub const LOCAL_POOL: &Table = &Table {
    name: "[[local_pool]]",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Default::Required,
            unit: "",
            doc: "the name that services use",
            example: r#""inside""#,
        },
        Key {
            name: "addresses",
            kind: Kind::Texts,
            default: Default::Required,
            unit: "",
            doc: "addresses that fullnat servers see as the client",
            example: r#"["10.0.2.200", "fd00:2::200"]"#,
        },
        Key {
            name: "ports",
            kind: Kind::Text,
            default: Default::Text("1025-65535"),
            unit: "",
            doc: "first and last local port",
            example: r#""1025-65535""#,
        },
    ],
};

/// `[[service]]`
pub const SERVICE: &Table = &Table {
    name: "[[service]]",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Default::None("made of protocol and address"),
            unit: "",
            doc: "name in counters and messages",
            example: r#""web""#,
        },
        Key {
            name: "protocol",
            kind: Kind::Choice(PROTOCOL_WORDS),
            default: Default::Required,
            unit: "",
            doc: "what is balanced",
            example: r#""tcp""#,
        },
        Key {
            name: "address",
            kind: Kind::TextOrTexts,
            default: Default::Required,
            unit: "",
            doc: "virtual address and port; a list makes one service of each",
            example: r#""192.0.2.10:80""#,
        },
        Key {
            name: "scheduler",
            kind: Kind::Choice(SCHEDULER_WORDS),
            default: Default::Text("wlc"),
            unit: "",
            doc: "picks the server of a new connection",
            example: r#""wlc""#,
        },
        Key {
            name: "scheduler_flags",
            kind: Kind::Choices(SCHEDULER_FLAG_WORDS),
            default: Default::Empty,
            unit: "",
            doc: "flags of the hashing schedulers",
            example: r#"["mh-port"]"#,
        },
        Key {
            name: "method",
            kind: Kind::Choice(METHOD_WORDS),
            default: Default::Required,
            unit: "",
            doc: "how packets reach the servers",
            example: r#""nat""#,
        },
        Key {
            name: "local_pool",
            kind: Kind::Text,
            default: Default::None("no pool"),
            unit: "",
            doc: "the pool that fullnat servers are reached from",
            example: r#""inside""#,
        },
        Key {
            name: "client_address",
            kind: Kind::Choice(CLIENT_ADDRESS_WORDS),
            default: Default::Text("hidden"),
            unit: "",
            doc: "how fullnat servers learn who the client is",
            example: r#""hidden""#,
        },
        Key {
            name: "server",
            kind: Kind::Tables(SERVER),
            default: Default::Empty,
            unit: "",
            doc: "the real servers",
            example: "...",
        },
    ],
};

/// `[[service.server]]`
pub const SERVER: &Table = &Table {
    name: "[[service.server]]",
    keys: &[
        Key {
            name: "address",
            kind: Kind::Text,
            default: Default::Required,
            unit: "",
            doc: "address and port; without a port, the port of the service",
            example: r#""10.0.2.11:8080""#,
        },
        Key {
            name: "weight",
            kind: WEIGHT,
            default: Default::Integer(1),
            unit: "",
            doc: "share of new connections; 0 gets none",
            example: "1",
        },
        Key {
            name: "method",
            kind: Kind::Choice(METHOD_WORDS),
            default: Default::None("the service's method"),
            unit: "",
            doc: "how packets reach this server",
            example: r#""dr""#,
        },
        Key {
            name: "upper_threshold",
            kind: THRESHOLD,
            default: Default::Integer(0),
            unit: "connections",
            doc: "where the server counts as overloaded; 0: no limit",
            example: "0",
        },
        Key {
            name: "lower_threshold",
            kind: THRESHOLD,
            default: Default::Integer(0),
            unit: "connections",
            doc: "where it stops being overloaded; 0: three quarters of the upper one",
            example: "0",
        },
    ],
};
