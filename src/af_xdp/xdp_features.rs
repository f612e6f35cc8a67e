//! What a driver's XDP can do, by its own words: the generic netlink family `netdev` (Linux 6.3 and later).

use super::netlink::{HEADER, ask, attributes, invalid, payload};
use std::io;

/// `NETDEV_XDP_ACT_*` of linux/netdev.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// Whether programs run in the driver and can redirect to AF_XDP sockets (`BASIC`, `REDIRECT`).
    pub fn native(self) -> bool {
        self.0 & 0b11 == 0b11
    }

    /// Whether AF_XDP sockets can be served without a copy (`XSK_ZEROCOPY`).
    pub fn zero_copy(self) -> bool {
        self.0 & (1 << 3) != 0
    }

    /// Whether a received frame may span several buffers (`RX_SG`).
    pub fn multi_buffer(self) -> bool {
        self.0 & (1 << 5) != 0
    }
}

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

const GENERIC_HEADER: usize = 4; // struct genlmsghdr

/// Asks for the features of the interface `ifindex`.
///
/// # Errors
/// `NotFound` on kernels before 6.3, which do not say; else those of the socket calls.
pub(super) fn xdp_features(ifindex: u32) -> io::Result<XdpFeatures> {
    let family = find(
        &request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0"),
        CTRL_ATTR_FAMILY_ID,
    )?;
    let family = u16::from_ne_bytes(family.get(..2).and_then(|id| id.try_into().ok()).ok_or_else(invalid)?);
    let device = request(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let features = find(&device, NETDEV_A_DEV_XDP_FEATURES)?;
    let bits = features.get(..8).and_then(|bits| bits.try_into().ok());
    Ok(XdpFeatures(u64::from_ne_bytes(bits.ok_or_else(invalid)?)))
}

/// A request with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_length = 4 + value.len();
    let length = HEADER + GENERIC_HEADER + attribute_length.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.resize(HEADER, 0);
    message.extend([command, 1, 0, 0]);
    message.extend((attribute_length as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(length, 0);
    message
}

/// The value of one attribute of the answer.
fn find(request: &[u8], wanted: u16) -> io::Result<Vec<u8>> {
    let answer = ask(libc::NETLINK_GENERIC, request)?;
    let body = payload(&answer)?.get(GENERIC_HEADER..).ok_or_else(invalid)?;
    let found = attributes(body).find(|(kind, _)| *kind == wanted);
    found.map(|(_, value)| value.to_vec()).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_or_says_that_it_cannot() {
        match xdp_features(1) {
            // Loopback has no native XDP.
            Ok(features) => assert!(!features.native() && !features.zero_copy()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }

    #[test]
    fn an_unknown_interface_is_an_error() {
        assert!(xdp_features(0x7fff_fff0).is_err());
    }
}
