//! The kernel's TCP states for a balancer in the middle, and the tables that lead from one to the next.

use super::state::Direction;

/// States of a TCP connection, in the kernel's order (the sync protocol carries these numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// No packet has set a state yet.
    None = 0,
    /// Both ends talk.
    Established,
    /// The server opened, or a reply came where none was expected.
    SynSent,
    /// The client opened.
    SynRecv,
    /// One end closed first.
    FinWait,
    /// Both ends closed, or one closed before the connection was established.
    TimeWait,
    /// Reset, or no sense in what was seen.
    Close,
    /// The client closed, the server not yet.
    CloseWait,
    /// The last acknowledgement is missing.
    LastAck,
    /// Never entered by a packet from NONE; kept for the kernel's numbering.
    Listen,
    /// `secure_tcp`: the client opened and has not proved yet that it hears the answer.
    SynAck,
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI, None as NO,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

impl TcpState {
    /// How many states there are.
    pub const COUNT: usize = 11;

    /// All states, by number.
    pub const ALL: [TcpState; TcpState::COUNT] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The name in `ipvsadm -Lc`.
    pub const fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            ES => "ESTABLISHED",
            SS => "SYN_SENT",
            SR => "SYN_RECV",
            FW => "FIN_WAIT",
            TW => "TIME_WAIT",
            CL => "CLOSE",
            CW => "CLOSE_WAIT",
            LA => "LAST_ACK",
            LI => "LISTEN",
            SA => "SYNACK",
        }
    }

    /// Whether a connection in this state counts as active (`ActiveConn` in ipvsadm).
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(self, ES | SS | SR | SA)
    }

    /// The state after a packet. `secure_tcp` is the defence against SYN floods (sysctl `secure_tcp`, when it is in force).
    #[inline]
    pub fn next(self, event: TcpEvent, direction: Direction, secure_tcp: bool) -> TcpState {
        let table = if secure_tcp { &SECURE } else { &NORMAL };
        let rows = match direction {
            Direction::Input => &table.input,
            Direction::Output => &table.output,
            Direction::InputOnly => &table.input_only,
        };
        match event {
            TcpEvent::Syn => rows.syn[self as usize],
            TcpEvent::Fin => rows.fin[self as usize],
            TcpEvent::Ack => rows.ack[self as usize],
            TcpEvent::Rst => rows.rst[self as usize],
            // No row in the kernel's table either: it closes.
            TcpEvent::None => CL,
        }
    }
}

/// What a segment means for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpEvent {
    /// SYN, with or without ACK
    Syn,
    /// FIN without SYN
    Fin,
    /// ACK alone
    Ack,
    /// RST, whatever else is set
    Rst,
    /// None of these flags
    None,
}

/// Bits of the TCP header's flags byte (RFC 9293 section 3.1).
pub mod flags {
    /// The sender has sent all
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers
    pub const SYN: u8 = 0x02;
    /// Reset
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts
    pub const ACK: u8 = 0x10;
}

impl TcpEvent {
    /// From the flags byte; of several flags the first of RST, SYN, FIN, ACK counts.
    #[inline]
    pub const fn from_flags(byte: u8) -> TcpEvent {
        match byte {
            b if b & flags::RST != 0 => TcpEvent::Rst,
            b if b & flags::SYN != 0 => TcpEvent::Syn,
            b if b & flags::FIN != 0 => TcpEvent::Fin,
            b if b & flags::ACK != 0 => TcpEvent::Ack,
            _ => TcpEvent::None,
        }
    }
}

/// Whether a segment that belongs to no connection makes one: a SYN (the kernel takes SYN+ACK as well), or with the sysctl
/// `sloppy_tcp` any segment; never one with RST.
#[inline]
pub const fn may_open(flags_byte: u8, sloppy_tcp: bool) -> bool {
    flags_byte & flags::RST == 0 && (sloppy_tcp || flags_byte & flags::SYN != 0)
}

/// The next state for each current one, in the order of the numbers.
type Row = [TcpState; TcpState::COUNT];

struct Rows {
    syn: Row,
    fin: Row,
    ack: Row,
    rst: Row,
}

struct Table {
    input: Rows,
    output: Rows,
    input_only: Rows,
}

#[rustfmt::skip]
static NORMAL: Table = Table {
    input: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        fin: [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    },
    output: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        fin: [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        ack: [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        rst: [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    },
    input_only: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        fin: [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    },
};

#[rustfmt::skip]
static SECURE: Table = Table {
    input: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
        fin: [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
        ack: [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
        rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    },
    output: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        fin: [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        ack: [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        rst: [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    },
    input_only: Rows {
        //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        syn: [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        fin: [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    },
};

#[cfg(test)]
mod tests {
    use super::flags::{ACK, FIN, RST, SYN};
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list_of_all() {
        for (number, state) in TcpState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number, "{}", state.name());
        }
    }

    #[test]
    fn of_several_flags_the_strongest_counts() {
        assert_eq!(TcpEvent::from_flags(RST | SYN | FIN | ACK), TcpEvent::Rst);
        assert_eq!(TcpEvent::from_flags(SYN | FIN | ACK), TcpEvent::Syn);
        assert_eq!(TcpEvent::from_flags(FIN | ACK), TcpEvent::Fin);
        assert_eq!(TcpEvent::from_flags(ACK | 0x08), TcpEvent::Ack);
        assert_eq!(TcpEvent::from_flags(0x08), TcpEvent::None);
    }

    #[test]
    fn a_segment_without_known_flags_closes() {
        assert_eq!(ES.next(TcpEvent::None, Direction::Input, false), CL);
    }

    #[test]
    fn only_a_syn_without_reset_opens_unless_sloppy() {
        assert!(may_open(SYN, false) && may_open(SYN | ACK, false));
        assert!(!may_open(SYN | RST, false) && !may_open(ACK, false));
        assert!(may_open(ACK, true) && !may_open(RST, true));
    }
}
