//! What becomes of a frame. Every frame ends in exactly one verdict, and every verdict has a name and a counter.

use crate::io::PortIndex;

/// One table makes the enum, the names, the help texts and the list of all.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal, $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $help] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name in counters, metrics and traces.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// One sentence for the operator.
            pub const fn help(self) -> &'static str {
                match self { $($name::$variant => $help,)* }
            }
        }
    };
}
pub(crate) use named;

named! {
    /// Why a frame was dropped.
    DropReason {
        TruncatedFrame = "truncated_frame", "The frame ends before its headers do.";
        UnknownVlan = "unknown_vlan", "The frame carries a VLAN tag that no port is configured for.";
        OtherMac = "other_mac", "The frame is addressed to another station's MAC.";
        UnknownEthertype = "unknown_ethertype", "Neither IPv4, IPv6 nor ARP.";
        BadIpHeader = "bad_ip_header", "Version, header length or total length of the IP header is wrong.";
        BadIpChecksum = "bad_ip_checksum", "The IPv4 header checksum is wrong.";
        BadExtensionHeader = "bad_extension_header", "An IPv6 extension header is malformed, out of order or one too many.";
        SourceRoute = "source_route", "The packet carries a source route, which hosts and routers refuse (RFC 5095, RFC 7126).";
        MartianSource = "martian_source", "The source address cannot be anybody's (loopback, multicast, unspecified or v4-mapped).";
        MartianDestination = "martian_destination", "The destination is multicast, loopback, unspecified or v4-mapped.";
        BadTransportHeader = "bad_transport_header", "The TCP, UDP, SCTP or ICMP header is truncated or contradicts itself.";
        BadFragment = "bad_fragment", "A fragment overlaps the header, is too short or would end past 65,535 bytes.";
        BadIcmp = "bad_icmp", "An ICMP message with a wrong checksum or an unusable quotation.";
        BadArp = "bad_arp", "An ARP message that is not Ethernet and IPv4, or too short.";
        BadNeighbourDiscovery = "bad_neighbour_discovery", "A neighbour solicitation that fails the checks of RFC 4861 section 7.1.1.";
        NotOurs = "not_ours", "Neither a virtual or local address nor a packet of a known real server.";
        NoService = "no_service", "The virtual address has no service on that protocol and port.";
        NotFirstPacket = "not_first_packet", "No connection, and the packet cannot open one (TCP without SYN, SCTP without INIT).";
        NoConnection = "no_connection", "Sent to a local address or by a nat server, but it belongs to no connection.";
        NoServer = "no_server", "No usable server, and the client may not be told so (rate limit, or an error about an error).";
        ServerRemoved = "server_removed", "The connection's server is not in the service any more.";
        TableFull = "table_full", "The connection table is full and the method needs an entry.";
        NoLocalPort = "no_local_port", "No free local address and port towards the server.";
        NoRoute = "no_route", "The kernel has no route to where the packet should go.";
        UnresolvedQueueFull = "unresolved_queue_full", "The next hop is not resolved yet and its queue is full.";
        Unresolved = "unresolved", "The next hop did not answer in time.";
        TtlExceeded = "ttl_exceeded", "Time to live ran out, and the sender may not be told so.";
        TooBig = "too_big", "Bigger than the path, and neither may it be fragmented nor the sender be told so.";
        FragmentQueueFull = "fragment_queue_full", "A fragment came before the first one and the queue for those is full.";
        FragmentTimeout = "fragment_timeout", "The first fragment of a datagram did not come in time.";
        FragmentedIcmp = "fragmented_icmp", "An ICMP message in fragments.";
        NoUdpChecksum = "no_udp_checksum", "A first fragment without a UDP checksum, on its way to IPv6, which requires one: a part does not tell it.";
        ProxyFragment = "proxy_fragment", "A fragment of what needs a PROXY header in front, which would shift the other fragments.";
        SctpFragment = "sctp_fragment", "A fragment of an SCTP packet that needs new ports: a part does not tell the new checksum.";
        NoHeadroom = "no_headroom", "The frame has no room for the headers it needs.";
        NoFrame = "no_frame", "The pool has no frame for a copy that is needed.";
        RedirectLoop = "redirect_loop", "A redirected frame would have to be redirected again.";
        GivenUp = "given_up", "ARP or a neighbour solicitation for a virtual address that the director has given up, because a worker is stuck.";
        ForwardingOff = "forwarding_off", "The director forwards nothing: it has no configuration yet.";
    }
}

named! {
    /// Why a frame was handed to the kernel.
    PuntReason {
        Arp = "arp", "ARP that is not a question for one of our addresses.";
        NeighbourDiscovery = "neighbour_discovery", "Neighbour discovery that is not a question for one of our addresses.";
        OtherProtocol = "other_protocol", "A protocol that is not balanced.";
        OtherEthertype = "other_ethertype", "Neither IPv4, IPv6 nor ARP, such as LLDP and LACP.";
        UnknownVlan = "unknown_vlan", "A VLAN that no port is configured for.";
        Group = "group", "Multicast or broadcast.";
        ToDirector = "to_director", "For the director's kernel, on one of its own addresses.";
        Transit = "transit", "For somebody else and not from a real server: what the kernel may route.";
    }
}

named! {
    /// What a reply that we made ourselves is.
    ReplyKind {
        Arp = "arp", "ARP reply for one of our addresses.";
        Neighbour = "neighbour_advertisement", "Neighbour advertisement for one of our addresses.";
        Echo = "echo", "Echo reply for a virtual address.";
        TimeExceeded = "time_exceeded", "ICMP: time to live ran out here.";
        TooBig = "too_big", "ICMP: fragmentation needed, or packet too big.";
        Unreachable = "unreachable", "ICMP: the service has no usable server.";
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on, out of that port.
    Transmit(PortIndex),
    /// Turned into an answer and sent back out of that port.
    Reply(ReplyKind, PortIndex),
    /// Handed to the worker that owns the connection.
    Redirect(u8),
    /// Handed to the kernel.
    Punt(PuntReason),
    /// Kept until something else arrives (the next hop's MAC, the first fragment); its final verdict follows.
    Held,
    /// Dropped.
    Drop(DropReason),
}
