//! The connection states against recordings of a real kernel: every recorded sequence of packets must lead to the same state, timeout
//! and count.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use ulvs_dataplane::conn::sctp_state::SctpEvent;
use ulvs_dataplane::conn::state::{ConnectionState, Direction, PacketEvent};
use ulvs_dataplane::conn::tcp_state::flags::{ACK, FIN, RST, SYN};
use ulvs_dataplane::conn::tcp_state::{TcpEvent, may_open};
use ulvs_dataplane::conn::timeouts::Timeouts;
use ulvs_dataplane::service::protocol;

#[derive(Deserialize)]
struct Recording {
    runs: Vec<Run>,
    walks: Vec<Walk>,
}

/// All sequences of some packets, each sent on a connection of its own.
#[derive(Deserialize)]
struct Run {
    name: String,
    proto: String,
    fwd: String,
    /// The command that set sysctls before.
    sysctl: String,
    depth: u32,
    /// Server, weight, active and inactive connections after all sequences of full length.
    final_counts: Vec<(String, u32, u32, u32)>,
    /// State and remaining seconds after a sequence; state `-` when there is no connection.
    seqs: BTreeMap<String, (String, u32)>,
}

/// One sequence, with what `ipvsadm -Lnc` and `ipvsadm -Ln` said after each packet.
#[derive(Deserialize)]
struct Walk {
    fwd: String,
    steps: Vec<WalkStep>,
}

#[derive(Deserialize)]
struct WalkStep {
    packet: String,
    lnc: Vec<String>,
    ln: String,
}

/// Between a packet and the reading of its connection the recorder let up to this many seconds pass.
const READ_WITHIN_S: u32 = 3;

/// One client's place in a director: no connection, or one.
struct Place {
    ip_protocol: u8,
    starts_without_output: bool,
    is_sloppy: bool,
    secure_tcp: bool,
    connection: Option<(ConnectionState, bool)>,
}

impl Place {
    fn new(proto: &str, fwd: &str, sysctl: &str) -> Place {
        Place {
            ip_protocol: match proto {
                "tcp" => protocol::TCP,
                "udp" => protocol::UDP,
                "sctp" => protocol::SCTP,
                other => panic!("the recording has the protocol {other}"),
            },
            starts_without_output: fwd != "nat",
            is_sloppy: sysctl.contains("sloppy_tcp=1") || sysctl.contains("sloppy_sctp=1"),
            secure_tcp: sysctl.contains("secure_tcp=3"),
            connection: None,
        }
    }

    fn of(run: &Run) -> Place {
        Place::new(&run.proto, &run.fwd, &run.sysctl)
    }

    /// `name` is the side (`i` client, `o` server), a point and the flags.
    fn packet(&mut self, name: &str) {
        let (side, flags) = name.split_once('.').expect("side.flags");
        if self.ip_protocol == protocol::SCTP {
            let event = sctp_event(flags);
            return self.event(
                side,
                PacketEvent::Sctp(event),
                event == SctpEvent::Init,
                event.may_open(self.is_sloppy),
            );
        }
        let tcp_flags = match flags {
            "syn" => SYN,
            "synack" => SYN | ACK,
            "ack" => ACK,
            "fin" => FIN | ACK,
            "finonly" => FIN,
            "rst" => RST,
            "rstack" => RST | ACK,
            "data" => 0,
            other => panic!("the recording has a packet {other}"),
        };
        match self.ip_protocol {
            protocol::UDP => self.event(side, PacketEvent::Udp, false, true),
            _ => {
                let event = PacketEvent::Tcp(TcpEvent::from_flags(tcp_flags));
                self.event(side, event, tcp_flags & SYN != 0, may_open(tcp_flags, self.is_sloppy));
            }
        }
    }

    fn event(&mut self, side: &str, event: PacketEvent, begins: bool, opens: bool) {
        if side == "i" {
            self.open_if_needed(begins, opens);
        }
        let Some((state, no_output)) = &mut self.connection else {
            return;
        };
        *state = state.next(event, Direction::of_packet(side == "i", no_output), self.secure_tcp);
    }

    fn open_if_needed(&mut self, begins: bool, opens: bool) {
        let over = |(state, no_output): (ConnectionState, bool)| begins && state.gives_way_to_syn(1, no_output);
        if self.connection.is_none_or(over) {
            let state = ConnectionState::before_first_packet(self.ip_protocol).filter(|_| opens);
            self.connection = state.map(|state| (state, self.starts_without_output));
        }
    }

    fn play(mut self, packets: &str) -> Option<ConnectionState> {
        packets.split(' ').for_each(|packet| self.packet(packet));
        self.connection.map(|(state, _)| state)
    }
}

fn sctp_event(name: &str) -> SctpEvent {
    match name {
        "data" => SctpEvent::Data,
        "init" => SctpEvent::Init,
        "init_ack" => SctpEvent::InitAck,
        "cookie_echo" => SctpEvent::CookieEcho,
        "cookie_ack" => SctpEvent::CookieAck,
        "shutdown" => SctpEvent::Shutdown,
        "shutdown_ack" => SctpEvent::ShutdownAck,
        "shutdown_complete" => SctpEvent::ShutdownComplete,
        "error" => SctpEvent::Error,
        "abort" => SctpEvent::Abort,
        other => panic!("the recording has a packet {other}"),
    }
}

/// What differs, in words.
fn compare(packets: &str, got: Option<ConnectionState>, expected: &(String, u32)) -> Result<(), String> {
    let (expected_name, expires_s) = expected;
    let Some(state) = got else {
        return if expected_name == "-" {
            Ok(())
        } else {
            Err(format!("{packets}: {expected_name}, we have none"))
        };
    };
    let timeout_s = state.timeout_s(&Timeouts::default());
    let expires_as_recorded = timeout_s >= *expires_s && timeout_s - expires_s <= READ_WITHIN_S;
    if state.name() == expected_name && expires_as_recorded {
        return Ok(());
    }
    Err(format!(
        "{packets}: {expected_name} with {expires_s} s, we have {} with {timeout_s} s",
        state.name()
    ))
}

/// Active and inactive connections after every sequence of full length that the run's packets can form.
fn counts_of_the_whole_tree(run: &Run) -> (u32, u32) {
    let first: BTreeSet<&str> = run
        .seqs
        .keys()
        .filter_map(|packets| packets.split(' ').next())
        .collect();
    let later: BTreeSet<&str> = run.seqs.keys().flat_map(|packets| packets.split(' ').skip(1)).collect();
    let mut sequences: Vec<String> = first.into_iter().map(str::to_owned).collect();
    for _ in 1..run.depth {
        sequences = sequences
            .iter()
            .flat_map(|start| later.iter().map(move |next| format!("{start} {next}")))
            .collect();
    }
    let ends = sequences.iter().filter_map(|packets| Place::of(run).play(packets));
    ends.fold((0, 0), |(active, inactive), state| {
        if state.is_active() {
            (active + 1, inactive)
        } else {
            (active, inactive + 1)
        }
    })
}

#[test]
fn every_recorded_sequence_ends_in_the_kernels_state() {
    let Some(recording) = common::recording::<Recording>("states.json") else {
        return;
    };
    let mut compared = 0;
    let mut differences = Vec::new();
    for run in &recording.runs {
        for (packets, expected) in &run.seqs {
            compared += 1;
            let difference = compare(packets, Place::of(run).play(packets), expected).err();
            differences.extend(difference.map(|difference| format!("{}: {difference}", run.name)));
        }
    }
    println!(
        "{} of {compared} sequences in {} runs equal",
        compared - differences.len(),
        recording.runs.len()
    );
    assert!(compared > 0, "the recording holds no run");
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn active_and_inactive_add_up_as_in_the_kernel() {
    let Some(recording) = common::recording::<Recording>("states.json") else {
        return;
    };
    for run in &recording.runs {
        let (_, _, active, inactive) = run.final_counts[0];
        assert_eq!(counts_of_the_whole_tree(run), (active, inactive), "{}", run.name);
    }
}

#[test]
fn walks_read_as_in_ipvsadm() {
    let Some(recording) = common::recording::<Recording>("states.json") else {
        return;
    };
    for walk in &recording.walks {
        let mut place = Place::new("tcp", &walk.fwd, "");
        for step in &walk.steps {
            place.packet(&step.packet);
            let (state, _) = place.connection.expect("every walk opens with a SYN");
            // pro expire state source virtual destination
            let connection: Vec<&str> = step.lnc[2].split_whitespace().collect();
            let (minutes, seconds) = connection[1].split_once(':').expect("mm:ss");
            let expires_s = minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap();
            compare(&step.packet, Some(state), &(connection[2].to_owned(), expires_s)).unwrap();
            // -> server method weight active inactive
            let server: Vec<&str> = step.ln.split_whitespace().collect();
            let counts = if state.is_active() { ["1", "0"] } else { ["0", "1"] };
            assert_eq!(server[4..6], counts, "{}", step.ln);
        }
    }
}
