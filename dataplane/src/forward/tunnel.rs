//! IP in IP, any family in any family (RFC 2003, RFC 2473, RFC 4213 section 3.5), with the fields that the kernel's `ip_vs_tunnel_xmit` chooses.

use crate::address::{Address, Family};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::protocol;
use crate::verdict::DropReason;
use crate::wire::{ipv4, ipv6};

/// Bytes of the outer header towards a server.
#[inline]
pub fn overhead(server: &Address) -> usize {
    match server.family() {
        Family::V4 => ipv4::HEADER,
        Family::V6 => ipv6::HEADER,
    }
}

/// Puts the outer header in front. `identification` must differ between outer packets that may be fragmented.
///
/// # Errors
/// `NoHeadroom`.
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    source: &Address,
    server: &Address,
    identification: u16,
) -> Result<(), DropReason> {
    let header = overhead(server);
    let inner = packet.family;
    let inner_length = packet.ip_length;
    let ip = &frame.head()[packet.ip..];
    let class = match inner {
        Family::V4 => ip[ipv4::TOS],
        Family::V6 => ipv6::traffic_class(ip),
    };
    let class = outer_class(class);
    frame.push_front(header).map_err(|_| DropReason::NoHeadroom)?;
    let outer = &mut frame.head_mut()[packet.ip..];
    match server.family() {
        Family::V4 => ipv4::Header {
            tos: class,
            total_length: (header + inner_length) as u16,
            identification,
            // The kernel copies DF from an IPv4 packet and leaves it out for an IPv6 one (pmtu_disc = 1).
            fragment: if inner == Family::V4 && packet.dont_fragment {
                ipv4::DONT_FRAGMENT
            } else {
                0
            },
            ttl: packet.ttl,
            protocol: inner_protocol(inner),
            source: *source,
            destination: *server,
        }
        .emit(outer),
        Family::V6 => ipv6::Header {
            traffic_class: class,
            payload_length: inner_length as u16,
            next_header: inner_protocol(inner),
            hop_limit: packet.ttl,
            source: *source,
            destination: *server,
        }
        .emit(outer),
    }
    packet.family = server.family();
    packet.ip_length += header;
    packet.transport = packet.ip + header;
    Ok(())
}

/// DSCP and ECN of the inner header stand in the outer one too, but "congestion experienced" becomes ECT(0): RFC 3168 section 9.1.1, as the kernel has it.
fn outer_class(inner: u8) -> u8 {
    const ECN_MASK: u8 = 0b11;
    const ECT_0: u8 = 0b10;
    if inner & ECN_MASK == ECN_MASK {
        inner & !ECN_MASK | ECT_0
    } else {
        inner
    }
}

fn inner_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::IPIP,
        Family::V6 => protocol::IPV6,
    }
}
