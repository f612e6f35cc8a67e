//! Frames: a template for each direction, into which a flow's addresses and ports are written.

use ulvs_dataplane::address::{Address, Family};
use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::io::Frame;
use ulvs_dataplane::service::protocol;
use ulvs_dataplane::wire::checksum::Sum;
use ulvs_dataplane::wire::{ethernet, ipv4, ipv6, put_u16, tcp, udp};

use super::network::{self, Balance, MACS, SERVICE_PORT};

/// 64 bytes on the wire with the frame check sequence, which software never sees.
pub const SMALLEST_FRAME: usize = 60;

/// The service that a client talks to: clients in order go to services in none.
fn service_of(balance: &Balance, id: u32) -> u16 {
    let scattered = u64::from(id.wrapping_mul(0x9e37_79b1));
    ((scattered * u64::from(balance.services)) >> 32) as u16
}

/// Client number `id`: four ports to an address.
pub fn client(balance: &Balance, id: u32) -> Key {
    let address = match balance.client {
        Family::V4 => Address::v4((0x1000_0000 + id / 4).to_be_bytes()),
        Family::V6 => {
            let mut octets = [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            octets[8..12].copy_from_slice(&(id / 4).to_be_bytes());
            Address::v6(octets)
        }
    };
    Key {
        source: address,
        destination: network::virtual_address(balance.client, service_of(balance, id)),
        source_port: 1024 + (id % 4) as u16 * 7919,
        destination_port: SERVICE_PORT,
        protocol: balance.protocol,
    }
}

/// Makes an empty frame a packet with this tuple and these TCP flags (none for UDP). Transport checksums are some number: the director carries them on, it does not judge them.
pub fn write<F: Frame>(frame: &mut F, to_port: usize, tuple: &Key, tcp_flags: u8) {
    let family = tuple.source.family();
    let ip_header = if family == Family::V4 {
        ipv4::HEADER
    } else {
        ipv6::HEADER
    };
    let transport_header = if tuple.protocol == protocol::TCP {
        tcp::HEADER
    } else {
        udp::HEADER
    };
    let length = (ethernet::HEADER + ip_header + transport_header).max(SMALLEST_FRAME);
    let ip_length = length - ethernet::HEADER;
    // A TCP segment without data is padded by the link layer, not by IP.
    let is_tcp = tuple.protocol == protocol::TCP;
    let ip_length = if is_tcp {
        ip_header + transport_header
    } else {
        ip_length
    };
    frame.set_length(length).expect("the smallest frames fit");
    let bytes = frame.head_mut();
    bytes[..6].copy_from_slice(&MACS[to_port]);
    bytes[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    let ethertype = if family == Family::V4 {
        ethernet::IPV4
    } else {
        ethernet::IPV6
    };
    put_u16(bytes, ethernet::ETHERTYPE, ethertype);
    let ip = &mut bytes[ethernet::HEADER..];
    match family {
        Family::V4 => {
            ip[..ipv4::HEADER].copy_from_slice(&[
                0x45,
                0,
                0,
                0,
                0,
                1,
                0x40,
                0,
                64,
                tuple.protocol,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ]);
            put_u16(ip, ipv4::TOTAL_LENGTH, ip_length as u16);
            ip[12..16].copy_from_slice(&tuple.source.v4_octets());
            ip[16..20].copy_from_slice(&tuple.destination.v4_octets());
            let checksum = Sum::of(&ip[..ipv4::HEADER]).to_checksum();
            put_u16(ip, ipv4::CHECKSUM, checksum);
        }
        Family::V6 => {
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, tuple.protocol, 64]);
            put_u16(ip, ipv6::PAYLOAD_LENGTH, (ip_length - ipv6::HEADER) as u16);
            ip[8..24].copy_from_slice(tuple.source.octets());
            ip[24..40].copy_from_slice(tuple.destination.octets());
        }
    }
    let transport = &mut ip[ip_header..];
    put_u16(transport, 0, tuple.source_port);
    put_u16(transport, 2, tuple.destination_port);
    if is_tcp {
        transport[4..tcp::HEADER]
            .copy_from_slice(&[0, 0, 1, 0, 0, 0, 2, 0, 0x50, tcp_flags, 0xff, 0xff, 0x12, 0x34, 0, 0]);
    } else {
        put_u16(transport, udp::LENGTH, (ip_length - ip_header) as u16);
        put_u16(transport, udp::CHECKSUM, 0x1234);
    }
}

/// What the generator must know to play the server of a flow: the end of the server's address, of the local address, and the local port.
#[derive(Clone, Copy, Default)]
pub struct ServerSide {
    server: u16,
    local: u8,
    local_port: u16,
}

impl ServerSide {
    /// From a frame that the director sent to the server.
    pub fn of_sent<F: Frame>(frame: &F, family: Family) -> ServerSide {
        let ip = &frame.head()[ethernet::HEADER..];
        let (local, server, transport) = match family {
            Family::V4 => (ip[15], [ip[18], ip[19]], ipv4::HEADER),
            Family::V6 => (ip[23], [ip[38], ip[39]], ipv6::HEADER),
        };
        ServerSide {
            server: u16::from_be_bytes(server),
            local,
            local_port: u16::from_be_bytes([ip[transport], ip[transport + 1]]),
        }
    }

    /// The tuple of the server's packets, for client number `id`.
    pub fn reply(&self, balance: &Balance, id: u32) -> Key {
        use ulvs_dataplane::service::ForwardingMethod::FullNat;
        let from_client = client(balance, id);
        let (destination, destination_port) = if balance.method == FullNat {
            (network::local(balance.server, self.local), self.local_port)
        } else {
            (from_client.source, from_client.source_port)
        };
        Key {
            source: network::server(balance.server, self.server),
            destination,
            source_port: network::SERVER_PORT,
            destination_port,
            protocol: balance.protocol,
        }
    }
}
