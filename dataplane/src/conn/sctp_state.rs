//! The kernel's SCTP states for a balancer in the middle, and the tables that lead from one to the next.

use super::state::Direction;
use crate::wire::sctp::chunk;
use crate::wire::tcp;

/// States of an SCTP association as the server sees it, in the kernel's order (the sync protocol carries these numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SctpState {
    /// No packet has set a state yet.
    None = 0,
    /// The client's first INIT.
    Init1,
    /// A further INIT: the server was slow, or the client lost its state.
    Init,
    /// The server answered with its cookie.
    CookieSent,
    /// The client returned the cookie.
    CookieReplied,
    /// The server sent an INIT of its own.
    CookieWait,
    /// The client answered that with a cookie.
    Cookie,
    /// The server returned the client's cookie.
    CookieEchoed,
    /// Both ends talk.
    Established,
    /// The server closed first.
    ShutdownSent,
    /// The client closed first.
    ShutdownReceived,
    /// The server has acknowledged the shutdown.
    ShutdownAckSent,
    /// An INIT was answered with ABORT.
    Rejected,
    /// Closed, or aborted.
    Closed,
}

use SctpState::{
    Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS, CookieWait as CW,
    Established as ES, Init as IN, Init1 as I1, None as NO, Rejected as RJ, ShutdownAckSent as SA,
    ShutdownReceived as SR, ShutdownSent as SS,
};

impl SctpState {
    /// How many states there are.
    pub const COUNT: usize = 14;

    /// All states, by number.
    pub const ALL: [SctpState; SctpState::COUNT] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// The name in `ipvsadm -Lc`.
    pub const fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            I1 => "INIT1",
            IN => "INIT",
            CS => "C-SENT",
            CR => "C-REPLIED",
            CW => "C-WAIT",
            CO => "COOKIE",
            CE => "C-ECHOED",
            ES => "ESTABLISHED",
            SS => "S-SENT",
            SR => "S-RECEIVED",
            SA => "S-ACK-SENT",
            RJ => "REJECTED",
            CL => "CLOSED",
        }
    }

    /// Whether a connection in this state counts as active (`ActiveConn` in ipvsadm).
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(self, ES)
    }

    /// The state after a packet.
    #[inline]
    pub fn next(self, event: SctpEvent, direction: Direction) -> SctpState {
        let table = match direction {
            Direction::Input => &INPUT,
            Direction::Output => &OUTPUT,
            Direction::InputOnly => &INPUT_ONLY,
        };
        table[event as usize][self as usize]
    }
}

/// What a packet means for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SctpEvent {
    /// DATA, SACK, HEARTBEAT and everything that is not named here
    Data = 0,
    /// INIT
    Init,
    /// INIT ACK
    InitAck,
    /// COOKIE ECHO
    CookieEcho,
    /// COOKIE ACK
    CookieAck,
    /// SHUTDOWN
    Shutdown,
    /// SHUTDOWN ACK
    ShutdownAck,
    /// SHUTDOWN COMPLETE
    ShutdownComplete,
    /// ERROR
    Error,
    /// ABORT
    Abort,
}

/// Where [`SctpEvent::to_flags`] puts the number.
const NUMBER_SHIFT: u32 = 4;

impl SctpEvent {
    const ALL: [SctpEvent; 10] = [
        SctpEvent::Data,
        SctpEvent::Init,
        SctpEvent::InitAck,
        SctpEvent::CookieEcho,
        SctpEvent::CookieAck,
        SctpEvent::Shutdown,
        SctpEvent::ShutdownAck,
        SctpEvent::ShutdownComplete,
        SctpEvent::Error,
        SctpEvent::Abort,
    ];

    /// From the type of the chunk that decides.
    pub const fn from_chunk(chunk_type: u8) -> SctpEvent {
        match chunk_type {
            chunk::INIT => SctpEvent::Init,
            chunk::INIT_ACK => SctpEvent::InitAck,
            chunk::COOKIE_ECHO => SctpEvent::CookieEcho,
            chunk::COOKIE_ACK => SctpEvent::CookieAck,
            chunk::SHUTDOWN => SctpEvent::Shutdown,
            chunk::SHUTDOWN_ACK => SctpEvent::ShutdownAck,
            chunk::SHUTDOWN_COMPLETE => SctpEvent::ShutdownComplete,
            chunk::ERROR => SctpEvent::Error,
            chunk::ABORT => SctpEvent::Abort,
            _ => SctpEvent::Data,
        }
    }

    /// As a parsed packet carries it in place of TCP flags: INIT is SYN alone, for it opens a connection as that does, and nothing else has
    /// SYN in it. So the path of established packets needs no question for the protocol.
    pub const fn to_flags(self) -> u8 {
        match self {
            SctpEvent::Init => tcp::SYN,
            other => (other as u8) << NUMBER_SHIFT,
        }
    }

    /// What [`SctpEvent::to_flags`] made of it.
    #[inline]
    pub fn from_flags(flags: u8) -> SctpEvent {
        if flags == tcp::SYN {
            return SctpEvent::Init;
        }
        let number = usize::from(flags >> NUMBER_SHIFT);
        SctpEvent::ALL.get(number).copied().unwrap_or(SctpEvent::Data)
    }

    /// Whether a packet that belongs to no connection makes one: an INIT, or with the sysctl `sloppy_sctp` any but an ABORT.
    pub fn may_open(self, sloppy_sctp: bool) -> bool {
        self == SctpEvent::Init || sloppy_sctp && self != SctpEvent::Abort
    }
}

/// A row for each event, a column for each state.
type Table = [[SctpState; SctpState::COUNT]; SctpEvent::ALL.len()];

#[rustfmt::skip]
static INPUT: Table = [
    //           NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /* DATA  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* INIT  */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    /* I ACK */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* C ECHO*/ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* C ACK */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    /* SHUT  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* S ACK */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    /* S COMP*/ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    /* ERROR */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    /* ABORT */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
static OUTPUT: Table = [
    //           NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /* DATA  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* INIT  */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    /* I ACK */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* C ECHO*/ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    /* C ACK */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* SHUT  */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    /* S ACK */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    /* S COMP*/ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ERROR */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ABORT */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
static INPUT_ONLY: Table = [
    //           NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /* DATA  */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* INIT  */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    /* I ACK */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* C ECHO*/ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* C ACK */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* SHUT  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* S ACK */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    /* S COMP*/ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    /* ERROR */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ABORT */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_its_flags_and_only_init_looks_like_syn() {
        for event in SctpEvent::ALL {
            let flags = event.to_flags();
            assert_eq!(SctpEvent::from_flags(flags), event);
            assert_eq!(flags & tcp::SYN != 0, event == SctpEvent::Init);
        }
    }

    #[test]
    fn an_association_opens_and_closes() {
        use Direction::{Input, Output};
        let steps = [
            (SctpEvent::Init, Input, I1),
            (SctpEvent::InitAck, Output, CS),
            (SctpEvent::CookieEcho, Input, CR),
            (SctpEvent::CookieAck, Output, ES),
            (SctpEvent::Data, Input, ES),
            (SctpEvent::Shutdown, Input, SR),
            (SctpEvent::ShutdownAck, Output, SA),
            (SctpEvent::ShutdownComplete, Input, CL),
        ];
        let mut state = NO;
        for (event, direction, expected) in steps {
            state = state.next(event, direction);
            assert_eq!(state, expected, "after {event:?}");
        }
    }
}
