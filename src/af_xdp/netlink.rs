//! What rtnetlink knows about one interface, and the netlink messages for that. Asked for directly, because /sys may show another network namespace than the
//! thread is in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The answer to `RTM_GETLINK`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub mtu: u32,
    pub mac: [u8; 6],
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// RX queues that were allocated (not all need be in use).
    pub receive_queues: u32,
    /// TX queues that were allocated.
    pub transmit_queues: u32,
    /// Interface index of the veth peer, when that is in the same namespace.
    pub peer: Option<u32>,
    /// Mode (`XDP_ATTACHED_*`) and id of the XDP program on the interface.
    pub program: Option<(u8, u32)>,
}

/// Asks the kernel about the interface `ifindex`.
///
/// # Errors
/// Those of the socket calls; `InvalidData` when the answer makes no sense.
pub(super) fn link(ifindex: u32) -> io::Result<Link> {
    parse(&ask(libc::NETLINK_ROUTE, &request(ifindex))?)
}

/// Sends one request on a netlink socket of its own and returns the first datagram of the answer.
///
/// # Errors
/// Those of the socket calls. An error message from the kernel is an answer.
pub(super) fn ask(protocol: i32, request: &[u8]) -> io::Result<Vec<u8>> {
    // SAFETY: socket(2) has no memory arguments.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };

    // SAFETY: the pointer and length are those of `request`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0u8; 64 << 10];
    // SAFETY: the pointer and length are those of `answer`.
    let received = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    answer.truncate(received as usize);
    Ok(answer)
}

/// Bytes of the header of every message.
pub(super) const HEADER: usize = size_of::<libc::nlmsghdr>();
const LINK_HEADER: usize = 16; // struct ifinfomsg

fn request(ifindex: u32) -> [u8; HEADER + LINK_HEADER] {
    let mut message = [0; HEADER + LINK_HEADER];
    message[0..4].copy_from_slice(&((HEADER + LINK_HEADER) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[HEADER + 4..HEADER + 8].copy_from_slice(&ifindex.to_ne_bytes());
    message
}

/// What follows the message's header; the error that the kernel answered with, if it did.
pub(super) fn payload(answer: &[u8]) -> io::Result<&[u8]> {
    let kind = u16::from_ne_bytes([*answer.get(4).ok_or_else(invalid)?, *answer.get(5).ok_or_else(invalid)?]);
    let payload = answer.get(HEADER..).ok_or_else(invalid)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let code = number(payload).ok_or_else(invalid)? as i32;
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(payload)
}

/// For an answer that is not as the kernel writes it.
pub(super) fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "netlink gave an answer that cannot be read")
}

fn parse(answer: &[u8]) -> io::Result<Link> {
    let mut link = Link::default();
    let mut foreign_peer = false;
    for (kind, value) in attributes(payload(answer)?.get(LINK_HEADER..).ok_or_else(invalid)?) {
        match kind {
            libc::IFLA_MTU => link.mtu = number(value).unwrap_or(0),
            libc::IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
            libc::IFLA_NUM_RX_QUEUES => link.receive_queues = number(value).unwrap_or(0),
            libc::IFLA_NUM_TX_QUEUES => link.transmit_queues = number(value).unwrap_or(0),
            libc::IFLA_LINK => link.peer = number(value).filter(|peer| *peer != 0),
            libc::IFLA_LINK_NETNSID => foreign_peer = true,
            libc::IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
                link.kind = kind.map(|(_, name)| text(name)).unwrap_or_default();
            }
            libc::IFLA_XDP => link.program = program(value),
            _ => {}
        }
    }
    if foreign_peer || link.kind != "veth" {
        link.peer = None;
    }
    Ok(link)
}

// The attributes inside IFLA_XDP (linux/if_link.h).
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;

fn program(nested: &[u8]) -> Option<(u8, u32)> {
    let find = |wanted| {
        attributes(nested)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let mode = *find(IFLA_XDP_ATTACHED)?.first()?;
    let id = find(IFLA_XDP_PROG_ID).and_then(number).unwrap_or(0);
    (mode != 0).then_some((mode, id))
}

/// The attributes (type, value) in a run of them; ends at the first malformed one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A 32-bit attribute.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_described() {
        let name = c"lo";
        // SAFETY: a valid C string.
        let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let link = link(ifindex).unwrap();
        assert_eq!((link.mtu, link.mac, link.program), (65536, [0; 6], None));
    }

    #[test]
    fn an_unknown_interface_is_an_error() {
        assert_eq!(link(0x7fff_fff0).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn cut_answers_are_errors_or_shorter_but_never_a_panic() {
        let whole = [request(1).as_slice(), &[8, 0, 4, 0, 0xdc, 5, 0, 0], &[9, 0, 1, 0]].concat();
        assert_eq!(parse(&whole).unwrap().mtu, 1500);
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
    }
}
