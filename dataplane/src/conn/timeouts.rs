//! How long a connection lives without a packet, by its state.

use super::sctp_state::SctpState;
use super::state::ConnectionState;
use super::tcp_state::TcpState;
use super::udp_state::UdpState;
use super::wheel;

/// Seconds in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    tcp_s: [u32; TcpState::COUNT],
    udp_s: u32,
    sctp_s: [u32; SctpState::COUNT],
    /// The same in ticks of the timer wheel, by [`ConnectionState::number`]: what every packet of a connection looks up.
    ticks: [u32; ConnectionState::NUMBERS],
}

/// Seconds of a connection that is made but whose first packet has not set a state yet.
pub const NEW_CONNECTION_TIMEOUT_S: u32 = 3;

/// The longest timeout that `ipvsadm --set` takes: 31 days.
pub const TIMEOUT_MAX_S: u32 = 31 * 24 * 60 * 60;

impl Default for Timeouts {
    /// The kernel's.
    fn default() -> Timeouts {
        Timeouts {
            //      NO  ES   SS   SR  FW   TW   CL  CW  LA  LI   SA
            tcp_s: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120],
            udp_s: 300,
            //       NO  I1 IN  CS  CR  CW  CO  CE  ES   SS  SR  SA  RJ CL
            sctp_s: [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61],
            ticks: [0; ConnectionState::NUMBERS],
        }
        .with_ticks()
    }
}

impl Timeouts {
    /// Seconds in a TCP state.
    #[inline]
    pub fn tcp(&self, state: TcpState) -> u32 {
        self.tcp_s[state as usize]
    }

    /// Seconds in a UDP state.
    #[inline]
    pub fn udp(&self, UdpState::Normal: UdpState) -> u32 {
        self.udp_s
    }

    /// Seconds in an SCTP state. They are the kernel's; `ipvsadm --set` does not reach them.
    #[inline]
    pub fn sctp(&self, state: SctpState) -> u32 {
        self.sctp_s[state as usize]
    }

    /// Ticks in a state.
    #[inline(always)]
    pub fn ticks(&self, state: ConnectionState) -> u32 {
        self.ticks[state.number()]
    }

    fn with_ticks(mut self) -> Timeouts {
        let tcp = TcpState::ALL.map(ConnectionState::from);
        let sctp = SctpState::ALL.map(ConnectionState::from);
        for state in tcp.into_iter().chain(sctp).chain([UdpState::Normal.into()]) {
            self.ticks[state.number()] = wheel::ticks_of_seconds(state.timeout_s(&self));
        }
        self
    }

    /// Sets the seconds in one TCP state; at least 1, at most [`TIMEOUT_MAX_S`].
    pub fn set_tcp(&mut self, state: TcpState, seconds: u32) {
        self.tcp_s[state as usize] = seconds.clamp(1, TIMEOUT_MAX_S);
        *self = self.with_ticks();
    }

    /// `ipvsadm --set tcp tcpfin udp`: seconds in ESTABLISHED, in FIN_WAIT and for UDP; 0 leaves one as it is. The other states
    /// cannot be set. Whoever reads the numbers refuses those above [`TIMEOUT_MAX_S`].
    pub fn set(&mut self, tcp_s: u32, tcp_fin_s: u32, udp_s: u32) {
        let set = |place: &mut u32, seconds: u32| {
            if seconds != 0 {
                *place = seconds;
            }
        };
        set(&mut self.tcp_s[TcpState::Established as usize], tcp_s);
        set(&mut self.tcp_s[TcpState::FinWait as usize], tcp_fin_s);
        set(&mut self.udp_s, udp_s);
        *self = self.with_ticks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_leaves_a_timeout_as_it_is() {
        let mut timeouts = Timeouts::default();
        timeouts.set(0, 30, 0);
        timeouts.set(0, 0, 7);
        assert_eq!(timeouts.tcp(TcpState::Established), 900);
        assert_eq!(timeouts.tcp(TcpState::FinWait), 30);
        assert_eq!(timeouts.udp(UdpState::Normal), 7);
        assert_eq!(timeouts.tcp(TcpState::TimeWait), 120, "--set does not reach TIME_WAIT");
    }

    #[test]
    fn ticks_follow_the_seconds() {
        let mut timeouts = Timeouts::default();
        timeouts.set(0, 30, 7);
        timeouts.set_tcp(TcpState::SynRecv, 5);
        for state in TcpState::ALL {
            assert_eq!(
                timeouts.ticks(state.into()),
                wheel::ticks_of_seconds(timeouts.tcp(state))
            );
        }
        assert_eq!(timeouts.ticks(UdpState::Normal.into()), wheel::ticks_of_seconds(7));
    }
}
