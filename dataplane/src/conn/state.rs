//! The state of a connection of any protocol, as its entry stores it.

use super::sctp_state::{SctpEvent, SctpState};
use super::tcp_state::{TcpEvent, TcpState, flags};
use super::timeouts::Timeouts;
use super::udp_state::UdpState;
use crate::service::protocol;

/// Which of the kernel's three transition tables a packet follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to server, on a connection whose replies the director sees.
    Input,
    /// Server to client.
    Output,
    /// Client to server, while no reply has been seen here (direct routing, tunnels).
    InputOnly,
}

impl Direction {
    /// Of a packet from the client, or from the server. `no_output` is the connection's flag "no reply was seen here", with which
    /// connections to DR and TUN servers start; a reply clears it.
    #[inline]
    pub fn of_packet(from_client: bool, no_output: &mut bool) -> Direction {
        match (from_client, *no_output) {
            (true, true) => Direction::InputOnly,
            (true, false) => Direction::Input,
            (false, _) => {
                *no_output = false;
                Direction::Output
            }
        }
    }
}

/// A state in one byte. The high bits tell the protocol, the low four the number of the state in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionState(u8);

const STATE_BITS: u8 = 0x0f;
const TCP: u8 = 0x00;
const UDP: u8 = 0x10;
const SCTP: u8 = 0x20;
const TEMPLATE: u8 = 0x30;

/// The state of a persistence template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TemplateState {
    /// No connection of it has been established yet.
    None = 0,
    /// One has.
    Assured = 1,
}

impl TemplateState {
    /// The name in `ipvsadm -Lc`.
    pub const fn name(self) -> &'static str {
        match self {
            TemplateState::None => "NONE",
            TemplateState::Assured => "ASSURED",
        }
    }
}

/// A state, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolState {
    /// TCP
    Tcp(TcpState),
    /// UDP
    Udp(UdpState),
    /// SCTP
    Sctp(SctpState),
    /// None: a persistence template
    Template(TemplateState),
}

/// What a packet means for the state of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketEvent {
    /// A TCP segment
    Tcp(TcpEvent),
    /// A UDP datagram
    Udp,
    /// An SCTP packet
    Sctp(SctpEvent),
}

impl From<TcpState> for ConnectionState {
    fn from(state: TcpState) -> ConnectionState {
        ConnectionState(TCP | state as u8)
    }
}

impl From<UdpState> for ConnectionState {
    fn from(state: UdpState) -> ConnectionState {
        ConnectionState(UDP | state as u8)
    }
}

impl From<SctpState> for ConnectionState {
    fn from(state: SctpState) -> ConnectionState {
        ConnectionState(SCTP | state as u8)
    }
}

impl From<TemplateState> for ConnectionState {
    fn from(state: TemplateState) -> ConnectionState {
        ConnectionState(TEMPLATE | state as u8)
    }
}

impl ConnectionState {
    /// The state before a connection's first packet is applied: it counts as inactive. `None` for a protocol that is not balanced.
    pub fn before_first_packet(ip_protocol: u8) -> Option<ConnectionState> {
        match ip_protocol {
            protocol::TCP => Some(TcpState::None.into()),
            protocol::UDP => Some(UdpState::Normal.into()),
            protocol::SCTP => Some(SctpState::None.into()),
            _ => None,
        }
    }

    /// How many numbers there are; a power of two.
    pub const NUMBERS: usize = 64;

    /// A number for tables by state.
    #[inline(always)]
    pub fn number(self) -> usize {
        usize::from(self.0) % ConnectionState::NUMBERS
    }

    /// Protocol and state.
    #[inline]
    pub fn protocol_state(self) -> ProtocolState {
        match self.0 & !STATE_BITS {
            UDP => ProtocolState::Udp(UdpState::Normal),
            SCTP => ProtocolState::Sctp(SctpState::ALL[usize::from(self.0 & STATE_BITS)]),
            TEMPLATE if self.0 & STATE_BITS == 0 => ProtocolState::Template(TemplateState::None),
            TEMPLATE => ProtocolState::Template(TemplateState::Assured),
            _ => ProtocolState::Tcp(TcpState::ALL[usize::from(self.0 & STATE_BITS)]),
        }
    }

    /// The state after a packet; what a new connection's first packet does is the same step. An event of another protocol changes
    /// nothing. `secure_tcp`: see [`TcpState::next`].
    #[inline]
    pub fn next(self, event: PacketEvent, direction: Direction, secure_tcp: bool) -> ConnectionState {
        match (self.protocol_state(), event) {
            (ProtocolState::Tcp(state), PacketEvent::Tcp(event)) => state.next(event, direction, secure_tcp).into(),
            (ProtocolState::Sctp(state), PacketEvent::Sctp(event)) => state.next(event, direction).into(),
            _ => self,
        }
    }

    /// Whether a segment with these flags surely leaves the state as it is, in either direction: a bare ACK in ESTABLISHED, as nearly all are. Asked first: the
    /// tables cost some 40 instructions.
    #[inline(always)]
    pub fn stays_with(self, tcp_flags: u8) -> bool {
        const ALL: u8 = flags::SYN | flags::FIN | flags::RST | flags::ACK;
        self.0 == TCP | TcpState::Established as u8 && tcp_flags & ALL == flags::ACK
    }

    /// Whether the connection counts as active (`ActiveConn` in ipvsadm), else as inactive. UDP is never active.
    #[inline]
    pub fn is_active(self) -> bool {
        match self.protocol_state() {
            ProtocolState::Tcp(state) => state.is_active(),
            ProtocolState::Udp(_) | ProtocolState::Template(_) => false,
            ProtocolState::Sctp(state) => state.is_active(),
        }
    }

    /// Whether both sides have agreed on a connection.
    pub fn is_established(self) -> bool {
        self == TcpState::Established.into() || self == SctpState::Established.into()
    }

    /// Seconds that the connection lives in this state without a packet.
    #[inline]
    pub fn timeout_s(self, timeouts: &Timeouts) -> u32 {
        match self.protocol_state() {
            ProtocolState::Tcp(state) => timeouts.tcp(state),
            ProtocolState::Udp(state) => timeouts.udp(state),
            ProtocolState::Sctp(state) => timeouts.sctp(state),
            // Its service has the timeout.
            ProtocolState::Template(_) => 0,
        }
    }

    /// The name in `ipvsadm -Lc`.
    pub fn name(self) -> &'static str {
        match self.protocol_state() {
            ProtocolState::Tcp(state) => state.name(),
            ProtocolState::Udp(state) => state.name(),
            ProtocolState::Sctp(state) => state.name(),
            ProtocolState::Template(state) => state.name(),
        }
    }

    /// Whether a SYN (with SCTP an INIT) from the same client address and port is a new connection that gets a server of its own, because this one is
    /// over (sysctl `conn_reuse_mode`: 0 never; else in TIME_WAIT and CLOSE; with bit 2 also in FIN_WAIT when no reply was ever seen;
    /// with SCTP in CLOSED).
    /// The caller leaves out connections that persistence or FTP controls.
    pub fn gives_way_to_syn(self, conn_reuse_mode: u8, no_output: bool) -> bool {
        match self.protocol_state() {
            ProtocolState::Tcp(TcpState::TimeWait | TcpState::Close) | ProtocolState::Sctp(SctpState::Closed) => {
                conn_reuse_mode != 0
            }
            ProtocolState::Tcp(TcpState::FinWait) => conn_reuse_mode & 2 != 0 && no_output,
            _ => false,
        }
    }
}

impl std::fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_byte() {
        for state in TcpState::ALL {
            assert_eq!(ConnectionState::from(state).protocol_state(), ProtocolState::Tcp(state));
        }
        for state in SctpState::ALL {
            assert_eq!(
                ConnectionState::from(state).protocol_state(),
                ProtocolState::Sctp(state)
            );
        }
        let udp = ConnectionState::from(UdpState::Normal);
        assert_eq!(udp.protocol_state(), ProtocolState::Udp(UdpState::Normal));
        assert_eq!(size_of::<ConnectionState>(), 1);
    }

    #[test]
    fn what_stays_by_the_short_way_stays_by_the_tables() {
        for (state, flags) in TcpState::ALL
            .into_iter()
            .flat_map(|state| (0..=255).map(move |flags| (state, flags)))
        {
            let before = ConnectionState::from(state);
            if !before.stays_with(flags) {
                continue;
            }
            for direction in [Direction::Input, Direction::Output, Direction::InputOnly] {
                let event = PacketEvent::Tcp(TcpEvent::from_flags(flags));
                for secure_tcp in [false, true] {
                    assert_eq!(before.next(event, direction, secure_tcp), before);
                }
            }
        }
        assert!(ConnectionState::from(TcpState::Established).stays_with(flags::ACK));
    }

    #[test]
    fn a_reply_ends_input_only() {
        let mut no_output = true;
        assert_eq!(Direction::of_packet(true, &mut no_output), Direction::InputOnly);
        assert_eq!(Direction::of_packet(false, &mut no_output), Direction::Output);
        assert_eq!(Direction::of_packet(true, &mut no_output), Direction::Input);
    }

    #[test]
    fn only_a_finished_connection_gives_way() {
        let gives_way =
            |state: TcpState, mode, no_output| ConnectionState::from(state).gives_way_to_syn(mode, no_output);
        assert!(gives_way(TcpState::TimeWait, 1, false) && gives_way(TcpState::Close, 1, true));
        assert!(!gives_way(TcpState::TimeWait, 0, false) && !gives_way(TcpState::Established, 3, true));
        assert!(gives_way(TcpState::FinWait, 2, true) && !gives_way(TcpState::FinWait, 2, false));
        assert!(!gives_way(TcpState::FinWait, 1, true));
    }
}
