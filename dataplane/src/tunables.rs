//! What operators of LVS know as sysctls (`/proc/sys/net/ipv4/vs/`): part of every snapshot, read only where no connection is hit plainly.

/// The settings under the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// When a SYN with the tuple of a connection begins a new one: 0 never; else in TIME_WAIT and CLOSE; with bit 2 also in FIN_WAIT while no reply was seen.
    pub conn_reuse_mode: u8,
    /// A packet whose server is not in the service any more ends its connection and is taken for the first of a new one; else it is dropped.
    pub expire_nodest_conn: bool,
    /// Any TCP segment but a reset opens a connection.
    pub sloppy_tcp: bool,
    /// Any SCTP packet but an ABORT opens a connection.
    pub sloppy_sctp: bool,
    /// An ICMP error to a virtual address about a packet of no connection is scheduled as if it opened one.
    pub schedule_icmp: bool,
    /// A nat server that sends what belongs to no connection is told so (port unreachable).
    pub nat_icmp_send: bool,
    /// Tunnels say "don't fragment" where the packet in them does; else the outer packet is cut where it has to be.
    pub pmtu_disc: bool,
    /// The TCP states that hold out against a flood of SYNs: 0 never, 3 always, 1 and 2 while the table is filled ([`Tunables::is_in_force`]).
    pub secure_tcp: u8,
}

impl Default for Tunables {
    /// The kernel's.
    fn default() -> Tunables {
        Tunables {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            schedule_icmp: false,
            nat_icmp_send: false,
            pmtu_disc: true,
            secure_tcp: 0,
        }
    }
}

impl Tunables {
    /// Whether a defence is in force, by its mode and how much of a connection table is used: 1 and 2 begin when less than an eighth is free. (The kernel looks at
    /// free memory instead, and writes 2 for 1 while it is in force.)
    pub fn is_in_force(mode: u8, used: usize, capacity: usize) -> bool {
        match mode {
            0 => false,
            1 | 2 => capacity - used.min(capacity) < capacity / 8,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_modes_begin_when_an_eighth_is_left() {
        for (mode, used, expected) in [
            (0, 800, false),
            (1, 700, false),
            (1, 701, true),
            (2, 701, true),
            (2, 0, false),
            (1, 900, true),
            (3, 0, true),
        ] {
            assert_eq!(
                Tunables::is_in_force(mode, used, 800),
                expected,
                "mode {mode}, {used} used"
            );
        }
    }
}
