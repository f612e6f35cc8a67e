//! The kinds of tunnels to a real server, as `ipvsadm --tun-type` has them.

/// What goes around a packet on its way to a server with the method `Tunnel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TunnelType {
    /// An IP header and nothing else.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The server's UDP port.
        port: u16,
        /// What the outer UDP checksum is.
        checksum: GueChecksum,
    },
    /// Generic routing encapsulation (RFC 2784), without a key.
    Gre {
        /// Whether the GRE header has a checksum, over itself and the packet.
        checksum: bool,
    },
}

/// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum GueChecksum {
    /// None: the field is 0.
    #[default]
    None,
    /// Over the whole datagram.
    Full,
    /// The same. The kernel leaves the inner checksum to the server (the option "remote checksum offload") only where it is unfinished when the packet enters the
    /// tunnel; here it never is.
    Remote,
}

impl GueChecksum {
    /// Whether the outer UDP header has a checksum.
    pub fn is_computed(self) -> bool {
        self != GueChecksum::None
    }
}
