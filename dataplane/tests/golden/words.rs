//! What the notation's two readers share: names of stations, types and flags, and the pattern that payloads are made of.

use std::collections::BTreeMap;

/// Link-layer addresses by name, as the case's network gives them.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, [u8; 6]>);

impl Names {
    /// Adds a station. Later names win when an address is written.
    pub fn add(&mut self, name: &str, mac: [u8; 6]) {
        self.0.insert(name.to_owned(), mac);
    }

    /// A name, or six bytes in hex with colons.
    pub fn mac(&self, word: &str) -> Result<[u8; 6], String> {
        if let Some(mac) = self.0.get(word) {
            return Ok(*mac);
        }
        let bytes: Vec<u8> = word
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes
            .try_into()
            .map_err(|_| format!("`{word}` is neither a station nor a MAC"))
    }

    /// The name of a MAC where it has one.
    pub fn of(&self, mac: &[u8]) -> String {
        if let Some((name, _)) = self.0.iter().find(|(_, own)| own[..] == *mac) {
            return name.clone();
        }
        mac.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":")
    }
}

/// TCP flags from the lowest bit up.
pub const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// SCTP chunks (RFC 9260 section 3.2): type and name.
pub const CHUNKS: &[(u8, &str)] = &[
    (0, "DATA"),
    (1, "INIT"),
    (2, "INIT-ACK"),
    (3, "SACK"),
    (4, "HEARTBEAT"),
    (5, "HEARTBEAT-ACK"),
    (6, "ABORT"),
    (7, "SHUTDOWN"),
    (8, "SHUTDOWN-ACK"),
    (9, "ERROR"),
    (10, "COOKIE-ECHO"),
    (11, "COOKIE-ACK"),
    (14, "SHUTDOWN-COMPLETE"),
];

/// ICMP messages that have a name: version, type, code, words. What follows the words is up to the message.
pub const ICMP: &[(u8, u8, u8, &str)] = &[
    (4, 0, 0, "echo-reply"),
    (4, 3, 0, "unreachable-net"),
    (4, 3, 1, "unreachable-host"),
    (4, 3, 2, "unreachable-protocol"),
    (4, 3, 3, "unreachable-port"),
    (4, 3, 4, "frag-needed"),
    (4, 3, 10, "unreachable-prohibited-host"),
    (4, 3, 13, "unreachable-prohibited"),
    (4, 4, 0, "source-quench"),
    (4, 8, 0, "echo-request"),
    (4, 11, 0, "time-exceeded"),
    (4, 11, 1, "reassembly-time-exceeded"),
    (6, 1, 0, "unreachable-no-route"),
    (6, 1, 1, "unreachable-prohibited"),
    (6, 1, 3, "unreachable-address"),
    (6, 1, 4, "unreachable-port"),
    (6, 2, 0, "too-big"),
    (6, 3, 0, "time-exceeded"),
    (6, 3, 1, "reassembly-time-exceeded"),
    (6, 4, 1, "unknown-next-header"),
    (6, 128, 0, "echo-request"),
    (6, 129, 0, "echo-reply"),
    (6, 133, 0, "router-solicitation"),
    (6, 135, 0, "solicit"),
    (6, 136, 0, "advertise"),
];

/// Byte number `at` of every payload that is written as `data`: bytes that were moved, lost or doubled show.
pub fn pattern(at: usize) -> u8 {
    ((at as u32).wrapping_add(1).wrapping_mul(2_654_435_761) >> 24) as u8
}

/// `data N`, `data N from K`, or the bytes in hex.
pub fn payload(bytes: &[u8]) -> String {
    let is_from = |from: usize| bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(from + at));
    if is_from(0) {
        return format!("data {}", bytes.len());
    }
    if bytes.len() >= 4
        && let Some(from) = (1..65_536).find(|&from| is_from(from))
    {
        return format!("data {} from {from}", bytes.len());
    }
    format!("hex {}", hex(bytes))
}

/// Bytes in hex without spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`hex`].
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let bad = |_| format!("`{text}` is no hex");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(bad))
        .collect()
}
