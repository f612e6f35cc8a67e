//! One director for each interface under DPDK's AF_XDP driver, which does not see to that itself: a second process fails with "Invalid argument",
//! and when it closes its port it detaches the XDP program of the first.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::DeviceSettings;
use super::error::Error;

/// Says to other directors that an interface is taken. The kernel takes it back with the process, however that ends.
#[derive(Debug)]
pub(super) struct Claim {
    _socket: UnixDatagram,
}

impl Claim {
    /// Claims the interface of a device, if it is one that has to be.
    ///
    /// # Errors
    /// A director of this network namespace has it already.
    pub fn of(device: &DeviceSettings) -> Result<Option<Claim>, Error> {
        let Some(interface) = device.af_xdp_interface() else {
            return Ok(None);
        };
        match claim(interface) {
            Ok(claim) => Ok(Some(claim)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::Setting(format!(
                "port {}: another ulvsd works on {interface}; stop that one first, or give this port another device",
                device.name
            ))),
            Err(source) => Err(Error::Call {
                action: format!("claiming {interface}"),
                source,
            }),
        }
    }
}

/// An abstract name: it belongs to the network namespace, as the interface does, and is no file that could be left behind.
fn claim(interface: &str) -> io::Result<Claim> {
    let name = SocketAddr::from_abstract_name(format!("ulvsd/interface/{interface}"))?;
    Ok(Claim {
        _socket: UnixDatagram::bind_addr(&name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_one_owner_at_a_time() {
        let device = |device: &str| DeviceSettings::new("outside", device);
        let first = Claim::of(&device("net_af_xdp0,iface=claim-test0,queue_count=1"));
        assert!(matches!(first, Ok(Some(_))));
        let told = Claim::of(&device("net_af_xdp1,iface=claim-test0")).unwrap_err();
        assert!(
            told.to_string().contains("another ulvsd works on claim-test0"),
            "{told}"
        );
        assert!(matches!(
            Claim::of(&device("net_af_xdp1,iface=claim-test1")),
            Ok(Some(_))
        ));
        assert!(matches!(Claim::of(&device("net_tap0,iface=claim-test0")), Ok(None)));
        drop(first);
        assert!(matches!(
            Claim::of(&device("net_af_xdp0,iface=claim-test0")),
            Ok(Some(_))
        ));
    }
}
