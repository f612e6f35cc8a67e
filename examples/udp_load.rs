//! Sends the smallest UDP packets as fast as one core can, out of an interface, for `hack/lab/bench-veth`. It prints how many it sent.
//!
//! `udp_load INTERFACE NEXT_HOP_MAC TARGET_IPV4 PORT SECONDS FLOWS`: clients 10.200.0.0 and up, drawn in turn from FLOWS of them; with `new` each packet is from
//! another one.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, socket};
use ulvs_dataplane::wire::checksum::Sum;
use ulvs_dataplane::wire::{ethernet, ipv4, put_u16, put_u32, udp};

/// Packets for each call of the kernel.
const BATCH: usize = 64;
/// 64 bytes on a wire, without the frame check sequence.
const FRAME: usize = 60;
/// Flows in front of a flow's packet of the next round: far apart, so that neighbours in the table are not asked for one after the other.
const STRIDE: u32 = 0x9e37_79b1;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, mac, target, port, seconds, flows] = &arguments[..] else {
        bail!("usage: udp_load INTERFACE NEXT_HOP_MAC TARGET_IPV4 PORT SECONDS FLOWS|new");
    };
    let flows: u32 = if flows == "new" {
        1 << 24
    } else {
        flows.parse().context("FLOWS is a number, or new")?
    };
    ensure!((1..=1 << 24).contains(&flows), "FLOWS is from 1 to 16777216");
    let address = link_address(interface)?;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).context("a packet socket needs root")?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("binding to {interface}"))?;
    let source = address.addr().context("the interface has no MAC")?;
    let mut frames = [frame(parse_mac(mac)?, source, target.parse()?, port.parse()?); BATCH];
    let end = Instant::now() + Duration::from_secs(seconds.parse().context("SECONDS is a number")?);
    let (mut flow, mut sent, mut failed) = (0_u32, 0_u64, 0_u64);
    while Instant::now() < end {
        for bytes in &mut frames {
            flow = flow.wrapping_add(STRIDE);
            set_client(bytes, ((u64::from(flow) * u64::from(flows)) >> 32) as u32);
        }
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        let slices: Vec<[IoSlice; 1]> = frames.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
        let addresses = [None; BATCH];
        match sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            addresses,
            [],
            MsgFlags::empty(),
        ) {
            Ok(results) => sent += results.count() as u64,
            Err(nix::Error::ENOBUFS | nix::Error::EAGAIN) => failed += 1,
            Err(error) => return Err(error).context("sending"),
        }
    }
    println!("sent {sent} failed {failed}");
    Ok(())
}

fn link_address(interface: &str) -> Result<LinkAddr> {
    nix::ifaddrs::getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("there is no interface {interface}"))
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets: Result<Vec<u8>, _> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets?.try_into().ok().with_context(|| format!("{text} is not a MAC"))
}

fn frame(destination: [u8; 6], source: [u8; 6], target: Ipv4Addr, port: u16) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    bytes[..6].copy_from_slice(&destination);
    bytes[6..12].copy_from_slice(&source);
    put_u16(&mut bytes, ethernet::ETHERTYPE, ethernet::IPV4);
    let ip = &mut bytes[ethernet::HEADER..];
    let length = FRAME - ethernet::HEADER;
    ip[0] = 0x45;
    put_u16(ip, ipv4::TOTAL_LENGTH, length as u16);
    ip[ipv4::TTL] = 64;
    ip[ipv4::PROTOCOL] = 17;
    ip[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&target.octets());
    let header = &mut ip[ipv4::HEADER..];
    put_u16(header, 2, port);
    put_u16(header, udp::LENGTH, (length - ipv4::HEADER) as u16);
    bytes
}

/// Client number `id`. UDP goes without a checksum (RFC 768), the IP header has one.
fn set_client(bytes: &mut [u8; FRAME], id: u32) {
    let ip = &mut bytes[ethernet::HEADER..];
    put_u32(ip, ipv4::SOURCE, u32::from_be_bytes([10, 200, 0, 0]) + (id >> 8));
    put_u16(ip, ipv4::HEADER, 1024 + (id & 0xff) as u16);
    put_u16(ip, ipv4::CHECKSUM, 0);
    let checksum = Sum::of(&ip[..ipv4::HEADER]).to_checksum();
    put_u16(ip, ipv4::CHECKSUM, checksum);
}
