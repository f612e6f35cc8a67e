//! The table of keys, one row each: name, type, default, unit, example in TOML, meaning.

use super::Kind::{self, Choice, Choices, Flag, Integer, Integers, Section, Sections, Text, TextOrTexts, Texts};
use super::{DefaultValue as Default, Key, Table};
use crate::config::model::MOST_WORKERS;
use crate::config::names::{
    BACKENDS, CLIENT_ADDRESSES, HUGE_PAGES, IDLES, METHODS, PORT_MODES, PROTOCOLS, RSS_FIELDS, SCHEDULER_FLAGS,
    SCHEDULERS, TUNNEL_CHECKSUMS, TUNNELS, ZERO_COPIES, words,
};

const BACKEND_WORDS: &[&str] = &words(&BACKENDS);
const HUGE_PAGE_WORDS: &[&str] = &words(&HUGE_PAGES);
const IDLE_WORDS: &[&str] = &words(&IDLES);
const PORT_MODE_WORDS: &[&str] = &words(&PORT_MODES);
const ZERO_COPY_WORDS: &[&str] = &words(&ZERO_COPIES);
const RSS_WORDS: &[&str] = &words(&RSS_FIELDS);
const PROTOCOL_WORDS: &[&str] = &words(&PROTOCOLS);
const SCHEDULER_WORDS: &[&str] = &words(&SCHEDULERS);
const SCHEDULER_FLAG_WORDS: &[&str] = &words(&SCHEDULER_FLAGS);
const METHOD_WORDS: &[&str] = &words(&METHODS);
const TUNNEL_WORDS: &[&str] = &words(&TUNNELS);
const TUNNEL_CHECKSUM_WORDS: &[&str] = &words(&TUNNEL_CHECKSUMS);
const CLIENT_ADDRESS_WORDS: &[&str] = &words(&CLIENT_ADDRESSES);

/// Frames name a worker by one byte.
const WORKERS: Kind = Integer {
    min: 1,
    max: MOST_WORKERS as u64,
};
/// ipvsadm takes no longer timeout than 31 days.
const TIMEOUT: Kind = Integer {
    min: 1,
    max: 31 * 24 * 3600,
};
/// The largest weight of a server.
pub const MOST_WEIGHT: u32 = 65535;
const WEIGHT: Kind = Integer {
    min: 0,
    max: MOST_WEIGHT as u64,
};
/// Far more than the kernel's stack takes in.
const PPS: Kind = Integer {
    min: 1,
    max: 10_000_000,
};
/// 0 or 1, as the kernel spells no and yes.
const SWITCH: Kind = Integer { min: 0, max: 1 };
/// A UDP port.
const PORT_NUMBER: Kind = Integer { min: 1, max: 65535 };
/// The kernel holds thresholds in a signed 32-bit word.
const THRESHOLD: Kind = Integer {
    min: 0,
    max: i32::MAX as u64,
};

/// One row.
const fn key(
    name: &'static str,
    kind: Kind,
    default: Default,
    unit: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        unit,
        doc,
        example,
    }
}

/// The top of the file.
#[rustfmt::skip]
pub const KEYS_OF_FILE: &Table = &Table { name: "the file", keys: &[
    key("director",   Section(DIRECTOR),    Default::Empty, "", "...", "the program itself"),
    key("timeouts",   Section(TIMEOUTS),    Default::Empty, "", "...", "when idle connections end"),
    key("ipvs",       Section(IPVS),        Default::Empty, "", "...", "what LVS has as sysctls"),
    key("dpdk",       Section(DPDK),        Default::Empty, "", "...", "what only the backend dpdk reads"),
    key("port",       Sections(PORT),       Default::Empty, "", "...", "network interfaces to work on"),
    key("local_pool", Sections(LOCAL_POOL), Default::Empty, "", "...", "addresses of the director towards fullnat servers"),
    key("service",    Sections(SERVICE),    Default::Empty, "", "...", "virtual services"),
] };

/// `[director]`
#[rustfmt::skip]
pub const DIRECTOR: &Table = &Table { name: "[director]", keys: &[
    key("backend",        Choice(BACKEND_WORDS),                  Default::Text("af_xdp"),              "",               r#""af_xdp""#,              "how frames are received and sent"),
    key("cores",          Integers { min: 0, max: 4095 },         Default::Empty,                       "",               "[2, 3]",                   "CPU numbers; one worker is pinned to each"),
    key("workers",        WORKERS,                                Default::Integer(1),                  "workers",        "1",                        "how many, not pinned, when cores is empty"),
    key("connections",    Integer { min: 1 << 10, max: 1 << 27 }, Default::Integer(1 << 20),            "connections",    "1048576",                  "size of the connection table, all workers together"),
    key("service_limit",  Integer { min: 1, max: 1 << 20 },       Default::Integer(16384),              "services",       "16384",                    "the most virtual services"),
    key("server_limit",   Integer { min: 1, max: 1 << 22 },       Default::Integer(65536),              "servers",        "65536",                    "the most real servers, all services together"),
    key("frames",         Integer { min: 0, max: 1 << 24 },       Default::Integer(0),                  "packet buffers", "0",                        "per worker and port; 0 has it computed"),
    key("idle",           Choice(IDLE_WORDS),                     Default::Text("sleep"),               "",               r#""sleep""#,               "what a worker does when nothing arrives"),
    key("worker_timeout_ms", Integer { min: 50, max: 60_000 },    Default::Integer(100),                "milliseconds",   "100",                      "after which a worker that does not come round counts as stuck"),
    key("control_socket", Text,                                   Default::Text("/run/ulvs/ulvs.sock"), "",               r#""/run/ulvs/ulvs.sock""#, "where the command line reaches the director"),
    key("control_group",  Text,                                   Default::Text("root"),                "",               r#""root""#,                "unix group that may use the control socket"),
    key("slow_path_pps",           PPS,                           Default::Integer(20_000),             "packets per second", "20000",                "the most that one port hands to its twin, besides those of the next two keys"),
    key("slow_path_neighbour_pps", PPS,                           Default::Integer(5_000),              "packets per second", "5000",                 "the same for ARP, neighbour discovery and IGMP"),
    key("slow_path_routing_pps",   PPS,                           Default::Integer(10_000),             "packets per second", "10000",                "the same for BGP and other routing protocols from afar"),
] };

/// `[timeouts]`
#[rustfmt::skip]
pub const TIMEOUTS: &Table = &Table { name: "[timeouts]", keys: &[
    key("tcp",            TIMEOUT, Default::Integer(900), "seconds", "900", "a TCP connection in ESTABLISHED"),
    key("tcp_fin",        TIMEOUT, Default::Integer(120), "seconds", "120", "a TCP connection in FIN_WAIT"),
    key("udp",            TIMEOUT, Default::Integer(300), "seconds", "300", "UDP between one client and one server"),
    key("tcp_syn_sent",   TIMEOUT, Default::Integer(120), "seconds", "120", "a TCP connection in SYN_SENT"),
    key("tcp_syn_recv",   TIMEOUT, Default::Integer(60),  "seconds", "60",  "a TCP connection in SYN_RECV"),
    key("tcp_time_wait",  TIMEOUT, Default::Integer(120), "seconds", "120", "a TCP connection in TIME_WAIT"),
    key("tcp_close",      TIMEOUT, Default::Integer(10),  "seconds", "10",  "a TCP connection in CLOSE"),
    key("tcp_close_wait", TIMEOUT, Default::Integer(60),  "seconds", "60",  "a TCP connection in CLOSE_WAIT"),
    key("tcp_last_ack",   TIMEOUT, Default::Integer(30),  "seconds", "30",  "a TCP connection in LAST_ACK"),
] };

/// `[ipvs]`
#[rustfmt::skip]
pub const IPVS: &Table = &Table { name: "[ipvs]", keys: &[
    key("conn_reuse_mode",    Integer { min: 0, max: 3 }, Default::Integer(1), "", "1", "when a SYN of the same client port begins a new connection"),
    key("expire_nodest_conn", SWITCH,                     Default::Integer(1), "", "1", "whether connections end with the next packet when their server is gone"),
    key("sloppy_tcp",         SWITCH,                     Default::Integer(0), "", "0", "whether any TCP segment but a reset opens a connection"),
    key("sloppy_sctp",        SWITCH,                     Default::Integer(0), "", "0", "whether any SCTP packet but an ABORT opens a connection"),
    key("schedule_icmp",      SWITCH,                     Default::Integer(0), "", "0", "whether ICMP errors about unknown connections are scheduled"),
    key("nat_icmp_send",      SWITCH,                     Default::Integer(0), "", "0", "whether nat servers are told of replies without a connection"),
    key("pmtu_disc",          SWITCH,                     Default::Integer(1), "", "1", "whether tunnels take part in path MTU discovery"),
    key("secure_tcp",         Integer { min: 0, max: 3 }, Default::Integer(0), "", "0", "when the TCP states are those against SYN floods"),
] };

/// `[dpdk]`
#[rustfmt::skip]
pub const DPDK: &Table = &Table { name: "[dpdk]", keys: &[
    key("huge_pages",    Choice(HUGE_PAGE_WORDS),            Default::Text("auto"), "",    r#""auto""#,              "whether DPDK's memory is on huge pages"),
    key("memory_mib",    Integer { min: 0, max: 1 << 20 },   Default::Integer(0),   "MiB", "512",                    "memory of DPDK; 0 has it computed"),
    key("eal_arguments", Texts,                              Default::Empty,        "",    r#"["--log-level=8"]"#,   "further arguments for DPDK's EAL"),
] };

/// `[[port]]`
#[rustfmt::skip]
pub const PORT: &Table = &Table { name: "[[port]]", keys: &[
    key("name",      Text,                          Default::None("the interface's name"), "",               r#""outside""#,                              "name in counters and messages"),
    key("interface", Text,                          Default::None("required; with dpdk the port's name"), "", r#""eth0""#,                                "kernel network interface"),
    key("device",    Text,                          Default::None("required with dpdk"),   "",               r#""0000:3b:00.0""#,                         "DPDK's device: a PCI address or a virtual device"),
    key("mtu",       Integer { min: 1280, max: 9702 }, Default::Integer(1500),             "bytes",          "9000",                                      "largest IP packet, with dpdk"),
    key("mode",      Choice(PORT_MODE_WORDS),       Default::Text("auto"),                 "",               r#""auto""#,                                 "how the XDP program is attached"),
    key("zero_copy", Choice(ZERO_COPY_WORDS),       Default::Text("auto"),                 "",               r#""auto""#,                                 "whether the driver writes into our buffers itself"),
    key("untagged",  Flag,                          Default::Flag(true),                   "",               "true",                                      "whether frames without a VLAN tag are taken"),
    key("rss",       Choice(RSS_WORDS),             Default::Text("tuple"),                "",               r#""tuple""#,                                "what the card hashes to spread packets over the workers"),
    key("vlans",     Sections(VLAN),                Default::Empty,                        "",               r#"[{ id = 100, interface = "eth0.100" }]"#, "VLANs whose tagged frames are taken"),
] };

/// `[[port.vlans]]`, usually written inline
#[rustfmt::skip]
pub const VLAN: &Table = &Table { name: "[[port.vlans]]", keys: &[
    key("id",        Integer { min: 1, max: 4094 }, Default::Required,                     "", "100",           "VLAN id"),
    key("interface", Text,                          Default::None("the port's interface"), "", r#""eth0.100""#, "kernel interface whose routes and neighbours belong to this VLAN"),
] };

/// `[[local_pool]]`
#[rustfmt::skip]
pub const LOCAL_POOL: &Table = &Table { name: "[[local_pool]]", keys: &[
    key("name",      Text,  Default::Required,           "", r#""inside""#,                      "the name that services use"),
    key("addresses", Texts, Default::Required,           "", r#"["10.0.2.200", "fd00:2::200"]"#, "addresses that fullnat servers see as the client"),
    key("ports",     Text,  Default::Text("1025-65535"), "", r#""1025-65535""#,                  "first and last local port"),
] };

/// `[[service]]`
#[rustfmt::skip]
pub const SERVICE: &Table = &Table { name: "[[service]]", keys: &[
    key("name",            Text,                          Default::None("made of protocol and address"), "", r#""web""#,           "name in counters and messages"),
    key("protocol",        Choice(PROTOCOL_WORDS),        Default::Required,                             "", r#""tcp""#,           "what is balanced"),
    key("address",         TextOrTexts,                   Default::Required,                             "", r#""192.0.2.10:80""#, "virtual address and port; a list makes one service of each"),
    key("scheduler",       Choice(SCHEDULER_WORDS),       Default::Text("wlc"),                          "", r#""wlc""#,           "picks the server of a new connection"),
    key("scheduler_flags", Choices(SCHEDULER_FLAG_WORDS), Default::Empty,                                "", r#"["mh-port"]"#,     "flags of the hashing schedulers"),
    key("method",          Choice(METHOD_WORDS),          Default::Required,                             "", r#""nat""#,           "how packets reach the servers"),
    key("tunnel",          Choice(TUNNEL_WORDS),          Default::Text("ipip"),                         "", r#""ipip""#,          "outer headers towards tun servers"),
    key("tunnel_port",     PORT_NUMBER,                   Default::None("no port"),                      "", "6080",                "UDP port of the servers' gue tunnels"),
    key("tunnel_checksum", Choice(TUNNEL_CHECKSUM_WORDS), Default::Text("none"),                         "", r#""none""#,          "checksum of the outer gue or gre header"),
    key("persistence_timeout",   TIMEOUT,                           Default::None("no persistence"), "seconds",      "300",   "how long clients stay with their server"),
    key("persistence_prefix_v4", Integer { min: 1, max: 32 },       Default::Integer(32),            "bits",         "24",    "how much of an IPv4 client's address says who it is"),
    key("persistence_prefix_v6", Integer { min: 1, max: 128 },      Default::Integer(128),           "bits",         "64",    "the same of an IPv6 client's address"),
    key("persistence_keeps_quiesced", Flag,                         Default::Flag(false),            "",             "false", "whether clients stay with a server of weight 0"),
    key("one_packet",      Flag,                          Default::Flag(false),                          "", "false",              "whether every datagram is scheduled for itself"),
    key("local_pool",      Text,                          Default::None("no pool"),                      "", r#""inside""#,        "the pool that fullnat servers are reached from"),
    key("client_address",  Choice(CLIENT_ADDRESS_WORDS),  Default::Text("hidden"),                       "", r#""hidden""#,        "how fullnat servers learn who the client is"),
    key("server",          Sections(SERVER),              Default::Empty,                                "", "...",                "the real servers"),
] };

/// `[[service.server]]`
#[rustfmt::skip]
pub const SERVER: &Table = &Table { name: "[[service.server]]", keys: &[
    key("address",         Text,                 Default::Required,                     "",            r#""10.0.2.11:8080""#, "address and port; without a port, the port of the service"),
    key("weight",          WEIGHT,               Default::Integer(1),                   "",            "1",                   "share of new connections; 0 gets none"),
    key("method",          Choice(METHOD_WORDS), Default::None("the service's method"), "",            r#""dr""#,             "how packets reach this server"),
    key("tunnel",          Choice(TUNNEL_WORDS),          Default::None("the service's tunnel"),          "", r#""gue""#,           "outer headers towards this server"),
    key("tunnel_port",     PORT_NUMBER,                   Default::None("the service's tunnel_port"),     "", "6080",                "UDP port of its gue tunnel"),
    key("tunnel_checksum", Choice(TUNNEL_CHECKSUM_WORDS), Default::None("the service's tunnel_checksum"), "", r#""full""#,          "checksum of the outer gue or gre header"),
    key("upper_threshold", THRESHOLD,            Default::Integer(0),                   "connections", "0",                   "where the server counts as overloaded; 0: no limit"),
    key("lower_threshold", THRESHOLD,            Default::Integer(0),                   "connections", "0",                   "where it stops being overloaded; 0: three quarters of the upper one"),
] };
