//! What the model reads in packets, and expects there.

use ulvs_dataplane::service::ClientAddress;

use super::{Checked, ensure};
use crate::flows::Flow;
use crate::packet::{Body, Packet};
use crate::plan::Plan;

pub(super) fn ports(packet: &Packet) -> (u16, u16) {
    match &packet.body {
        Body::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Body::Udp(udp) => (udp.source_port, udp.destination_port),
        _ => (0, 0),
    }
}

/// Flow and serial number in a TCP packet's options.
pub(super) fn label(options: &[u8]) -> Option<(u32, u32)> {
    let at = options.windows(4).position(|window| window == [1, 1, 8, 10])? + 4;
    let word = |at: usize| Some(u32::from_be_bytes(options.get(at..at + 4)?.try_into().ok()?));
    Some((word(at)?, word(at + 4)?))
}

/// The options behind the one that tells the client's address, which must be right.
pub(super) fn without_toa<'a>(options: &'a [u8], kind: ClientAddress, flow: &Flow) -> Checked<&'a [u8]> {
    if kind != ClientAddress::Toa || options.first() != Some(&254) {
        return Ok(options);
    }
    let length = usize::from(options[1]);
    let mut expected = vec![254, length as u8];
    expected.extend(flow.client_port.to_be_bytes());
    expected.extend(flow.client.wire());
    ensure!(options[..length] == expected, "TOA {:02x?}", &options[..length]);
    Ok(&options[length..])
}

/// Equal but for a lower segment size.
pub(super) fn same_options(got: &[u8], original: &[u8]) -> bool {
    let [end, original_end] = [got, original].map(|options| options.len() - if options.len() == 16 { 2 } else { 0 });
    got[..end] == original[..original_end] && got[end..] <= original[original_end..]
}

/// PROXY protocol version 2, as its specification lays it out.
pub(super) fn proxy_header(flow: &Flow, plan: &Plan) -> Vec<u8> {
    let service = &plan.services[flow.service];
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let is_v4 = flow.client.is_v4();
    header.push(0x21);
    header.push(if is_v4 { 0x10 } else { 0x20 } | if flow.is_tcp { 1 } else { 2 });
    header.extend([0, if is_v4 { 12 } else { 36 }]);
    header.extend(flow.client.wire());
    header.extend(service.address.wire());
    header.extend(flow.client_port.to_be_bytes());
    header.extend(service.port.to_be_bytes());
    header
}
