//! What holds for all packets: through each method and back they have the right tuple, fields, payload and checksums; and no bytes whatever make the director
//! panic or lose count.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;
use ulvs_dataplane::io::PortIndex;

use crate::config::Director;
use crate::encode;
use crate::run::Run;

/// A configuration of the cases, with the families of client and server and the method.
#[derive(Clone, Copy, Debug)]
struct Setup {
    case: &'static str,
    client_v4: bool,
    server_v4: bool,
    method: &'static str,
}

const SETUPS: &[Setup] = &[
    Setup {
        case: "nat-v4-tcp",
        client_v4: true,
        server_v4: true,
        method: "nat",
    },
    Setup {
        case: "nat-v6-tcp",
        client_v4: false,
        server_v4: false,
        method: "nat",
    },
    Setup {
        case: "dr-v4-tcp",
        client_v4: true,
        server_v4: true,
        method: "dr",
    },
    Setup {
        case: "dr-v6-tcp",
        client_v4: false,
        server_v4: false,
        method: "dr",
    },
    Setup {
        case: "tunnel-v4-tcp",
        client_v4: true,
        server_v4: true,
        method: "tunnel",
    },
    Setup {
        case: "tunnel-v6-tcp",
        client_v4: false,
        server_v4: false,
        method: "tunnel",
    },
    Setup {
        case: "tunnel-v4-in-v6-tcp",
        client_v4: true,
        server_v4: false,
        method: "tunnel",
    },
    Setup {
        case: "tunnel-v6-in-v4-tcp",
        client_v4: false,
        server_v4: true,
        method: "tunnel",
    },
    Setup {
        case: "fullnat-v4-tcp",
        client_v4: true,
        server_v4: true,
        method: "fullnat",
    },
    Setup {
        case: "fullnat-v6-tcp",
        client_v4: false,
        server_v4: false,
        method: "fullnat",
    },
    Setup {
        case: "fullnat-v4-to-v6-tcp",
        client_v4: true,
        server_v4: false,
        method: "fullnat",
    },
    Setup {
        case: "fullnat-v6-to-v4-tcp",
        client_v4: false,
        server_v4: true,
        method: "fullnat",
    },
];

/// The fields of a packet, whatever its tuple.
#[derive(Clone, Debug)]
struct Fields {
    class: u8,
    ttl: u8,
    id: u16,
    may_be_cut: bool,
    seq: u32,
    ack: u32,
    window: u16,
    options: &'static str,
    data: usize,
    from: usize,
}

impl Fields {
    fn ip(&self, v4: bool, source: &str, destination: &str, ttl: u8) -> String {
        let class = |name: &str| match self.class {
            0 => String::new(),
            class => format!(" {name} {class:#04x}"),
        };
        if v4 {
            let df = if self.may_be_cut { "" } else { " df" };
            format!(
                "ip {source} > {destination}{} ttl {ttl} id {}{df}",
                class("tos"),
                self.id
            )
        } else {
            format!("ip6 {source} > {destination}{} ttl {ttl}", class("class"))
        }
    }

    fn tcp(&self, from: u16, to: u16, flags: &str) -> String {
        let window = match self.window {
            0xffff => String::new(),
            window => format!(" win {window}"),
        };
        let ack = if flags.contains("ACK") { self.ack } else { 0 };
        let ack = if flags.contains("ACK") {
            format!(" ack {ack}")
        } else {
            String::new()
        };
        let data = match self.data {
            0 => String::new(),
            count if self.from == 0 => format!(" | data {count}"),
            count => format!(" | data {count} from {}", self.from),
        };
        format!(
            "tcp {from} > {to} {flags} seq {}{ack}{window}{}{data}",
            self.seq, self.options
        )
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let options = select(vec![
        "",
        " mss 536",
        " nop mss 1000 nop",
        " nop nop timestamp 77 4294967295",
        " mss 900 sackok timestamp 1 2 nop wscale 7",
        " nop nop sack 1-2,4294967295-7",
        " nop sack 5-6 nop",
    ]);
    let ip = (any::<u8>(), 2..=255u8, any::<u16>(), any::<bool>());
    let tcp = (any::<u32>(), any::<u32>(), any::<u16>(), options);
    // At least 4 bytes, so that the reader knows the payload again; short enough for every path.
    (ip, tcp, prop_oneof![Just(0), 4..1200usize], 0..2usize).prop_map(|(ip, tcp, data, from)| Fields {
        class: ip.0,
        ttl: ip.1,
        id: ip.2,
        may_be_cut: ip.3,
        seq: tcp.0,
        ack: tcp.1,
        window: tcp.2,
        options: tcp.3,
        data,
        from: from * 300,
    })
}

fn address(v4: bool, bits: u128) -> String {
    if v4 {
        let [.., a, b, c] = bits.to_be_bytes();
        Ipv4Addr::new(198, a, b, c).to_string()
    } else {
        Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 | bits >> 32).to_string()
    }
}

/// The one frame that went out, without the link-layer part.
fn sent(run: &mut Run) -> Result<String, TestCaseError> {
    prop_assert!(run.faults.is_empty(), "{:?}", run.faults);
    let sent: Vec<_> = run.lines.drain(..).filter(|line| line.starts_with('<')).collect();
    prop_assert_eq!(sent.len(), 1, "{:?}", sent);
    let (_, packet) = sent[0].split_once(" | ").unwrap_or_default();
    // Identification and DF of an IP header that the director makes are its own business; the cases show them.
    Ok(packet.to_owned())
}

/// Without identification and DF.
fn without_own(packet: &str) -> String {
    let mut words = Vec::new();
    let mut all = packet.split(' ');
    while let Some(word) = all.next() {
        match word {
            "id" => drop(all.next()),
            "df" => {}
            word => words.push(word),
        }
    }
    words.join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn packets_go_through_and_back(
        setup in select(SETUPS),
        bits in any::<u128>(),
        port in 1..=65_535u16,
        request in fields(),
        answer in fields(),
    ) {
        let mut run = Run::new(Director::read(&crate::folder().join(setup.case)).unwrap()).unwrap();
        let client = address(setup.client_v4, bits);
        let virtual_ = if setup.client_v4 { "192.0.2.10" } else { "2001:db8:1::10" };
        let (server, local, own) = match setup.server_v4 {
            true => ("10.0.2.11", "10.0.2.200", "10.0.2.1"),
            false => ("fd00:2::11", "fd00:2::200", "fd00:2::1"),
        };
        let came = request.ip(setup.client_v4, &client, virtual_, request.ttl);
        let segment = request.tcp(port, 80, "SYN");
        run.arrive(&format!("outside eth gateway > outside | {came} | {segment}")).unwrap();
        run.check();
        let went = sent(&mut run)?;
        let unchanged = format!("{} | {segment}", request.ip(setup.client_v4, &client, virtual_, request.ttl - 1));
        match setup.method {
            "dr" => prop_assert_eq!(went, unchanged),
            "tunnel" => {
                let (outer, inner) = went.split_once(" | ").unwrap_or_default();
                prop_assert_eq!(inner, unchanged);
                prop_assert!(outer.contains(&format!("{own} > {server}")), "{}", outer);
            }
            _ => {
                let (source, source_port) = match setup.method {
                    "nat" => (client.as_str(), port),
                    _ => (local, 5001),
                };
                let ip = request.ip(setup.server_v4, source, server, request.ttl - 1);
                let expected = format!("{ip} | {}", request.tcp(source_port, 8080, "SYN"));
                if setup.client_v4 == setup.server_v4 {
                    prop_assert_eq!(&went, &expected);
                } else {
                    prop_assert_eq!(without_own(&went), without_own(&expected));
                }
                let ip = answer.ip(setup.server_v4, server, source, answer.ttl);
                let segment = answer.tcp(8080, source_port, "SYN ACK");
                run.arrive(&format!("inside eth server1 > inside | {ip} | {segment}")).unwrap();
                run.check();
                let back = sent(&mut run)?;
                let ip = answer.ip(setup.client_v4, virtual_, &client, answer.ttl - 1);
                let expected = format!("{ip} | {}", answer.tcp(80, port, "SYN ACK"));
                prop_assert_eq!(without_own(&back), without_own(&expected));
            }
        }
    }
}

/// Every frame that a case sends in, with its port.
fn frames_of(case: &str) -> Vec<(u8, Vec<u8>)> {
    let folder = crate::folder().join(case);
    let director = Director::read(&folder).unwrap();
    let names = director.names().unwrap();
    let script = std::fs::read_to_string(folder.join("frames.txt")).unwrap();
    let steps = script.lines().filter_map(|line| line.strip_prefix("> "));
    let frame = |step: &str| {
        let (place, frame) = step.split_once(' ')?;
        let built = encode::frame(frame, &names).ok()?;
        Some((director.port(place).ok()?.0, built.bytes))
    };
    steps.filter_map(frame).collect()
}

/// One damage to a frame.
#[derive(Clone, Debug)]
enum Damage {
    /// Another byte at that share of its length.
    Byte(f64, u8),
    /// It ends early.
    Cut(f64),
    /// Something follows.
    Longer(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        8 => (0.0..1.0f64, any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        // The headers are where it matters.
        8 => (0.0..0.1f64, any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => (0.0..1.0f64).prop_map(Damage::Cut),
        1 => any::<u8>().prop_map(Damage::Longer),
    ]
}

fn damaged(frame: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for damage in damages {
        let place = |share: f64| (share * bytes.len() as f64) as usize;
        match damage {
            Damage::Byte(share, byte) => {
                let at = place(*share);
                if let Some(own) = bytes.get_mut(at) {
                    *own = *byte;
                }
            }
            Damage::Cut(share) => bytes.truncate(place(*share)),
            Damage::Longer(count) => bytes.extend((0..*count).map(|byte| byte ^ 0x5a)),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_frames_do_no_harm(
        case in select(vec![
            "nat-v4-tcp", "fullnat-v6-udp", "icmp-errors-v4-nat", "icmp-errors-v6-to-v4", "icmp-errors-v4-to-v6", "neighbour-discovery",
            "arp", "fragments-v6-nat", "too-big-v4-tunnel", "proxy-tcp-v4-to-v6", "toa-v6-to-v4", "malformed-ipv6", "malformed-ipv4",
            "partial-checksum-v4-fullnat", "proxy-udp-v6-to-v4", "icmp6-bad", "two-vlans-fullnat",
        ]),
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(damage(), 0..4)), 1..20),
    ) {
        let mut run = Run::new(Director::read(&crate::folder().join(case)).unwrap()).unwrap();
        let frames = frames_of(case);
        for (which, damages) in &damages {
            let (port, frame) = &frames[which.index(frames.len())];
            run.arrive_bytes(PortIndex(*port), &damaged(frame, damages));
            run.check();
            prop_assert!(run.faults.is_empty(), "{:?}", run.faults);
        }
    }
}
