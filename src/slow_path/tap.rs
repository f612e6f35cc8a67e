//! A port's twin in the kernel: a TAP with its MAC and MTU. What the kernel sends on it comes out here, what is written here the kernel
//! receives.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Error, PortSettings};

/// linux/if_tun.h: `_IOW('T', 226, int)`, which libc does not have.
const TUNSETCARRIER: libc::Ioctl = libc::_IOW::<libc::c_int>('T' as u32, 226);

/// See the module. It goes away with this value, unless it was there before and is persistent (`ip tuntap add`).
#[derive(Debug)]
pub struct Twin {
    name: String,
    file: File,
    ifindex: u32,
    was_there: bool,
}

impl Twin {
    /// Creates the TAP in the network namespace of the calling thread, or opens the one that is there; sets MAC and MTU and brings it up. Its
    /// addresses are the operator's.
    ///
    /// # Errors
    /// A sentence.
    pub fn create(port: &PortSettings) -> Result<Twin, Error> {
        let name = port.name.as_str();
        check_name(name)?;
        let was_there = if_nametoindex(name).is_ok();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(Error::NoTun)?;
        let mut request = request(name);
        // Without packet information and without a virtio header: plain frames.
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        configure(&file, libc::TUNSETIFF, &mut request).map_err(|error| match error.raw_os_error() {
            // The kernel: the name is another kind of device's, or a TAP's with other settings for queues.
            Some(libc::EINVAL) if was_there => Error::NotATap(name.to_owned()),
            Some(libc::EBUSY) => Error::InUse(name.to_owned()),
            _ => Error::call("creating the TAP", name, error),
        })?;
        // No offloads, also where somebody had them before: the kernel finishes all checksums and cuts all segments itself.
        // SAFETY: this request takes a number, not a pointer.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 0) } != 0 {
            return Err(Error::call("switching offloads off", name, io::Error::last_os_error()));
        }
        set_up(port)?;
        let ifindex = if_nametoindex(name).map_err(|error| Error::call("finding the TAP", name, error))?;
        Ok(Twin {
            name: name.to_owned(),
            file,
            ifindex,
            was_there,
        })
    }

    /// Its name: what `OpenPort::interface` is to be.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number for it.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the operator had made it before.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Tells the kernel whether the port has a link: without, routes over the twin are not used, and programs that track it are told.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_carrier(&self, has_link: bool) -> io::Result<()> {
        let value = libc::c_int::from(has_link);
        // SAFETY: the request reads an int, which lives through the call.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), TUNSETCARRIER, &raw const value) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The kernel receives the frame, all of it or nothing.
    ///
    /// # Errors
    /// The kernel's answer, as when the twin is down.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(|_| ())
    }

    /// A frame that the kernel sends: its length in `into`.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else when the twin is gone.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(into)
    }
}

impl AsFd for Twin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `dev_valid_name` of the kernel, and without `%`, which has it choose a number.
fn check_name(name: &str) -> Result<(), Error> {
    let is_good = |c: char| !matches!(c, '/' | ':' | '%') && !c.is_whitespace() && !c.is_control();
    let fits = (1..libc::IFNAMSIZ).contains(&name.len()) && !matches!(name, "." | "..");
    if fits && name.chars().all(is_good) {
        Ok(())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

/// MAC before the link goes up, since the kernel makes the IPv6 link-local address of it then.
fn set_up(port: &PortSettings) -> Result<(), Error> {
    let name = port.name.as_str();
    let failed = |action| move |error| Error::call(action, name, error);
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|error| Error::call("opening a socket", name, error))?;
    let mut wanted = request(name);
    // SAFETY: all-zero is a valid sockaddr.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    address.sa_family = libc::ARPHRD_ETHER;
    for (to, from) in address.sa_data.iter_mut().zip(port.mac) {
        *to = from as libc::c_char;
    }
    wanted.ifr_ifru.ifru_hwaddr = address;
    configure(&control, libc::SIOCSIFHWADDR as _, &mut wanted).map_err(failed("setting the port's MAC"))?;
    let mut wanted = request(name);
    wanted.ifr_ifru.ifru_mtu = port.mtu.try_into().unwrap_or(libc::c_int::MAX);
    configure(&control, libc::SIOCSIFMTU as _, &mut wanted).map_err(failed("setting the port's MTU"))?;
    let mut flags = request(name);
    configure(&control, libc::SIOCGIFFLAGS as _, &mut flags).map_err(failed("reading the flags"))?;
    // SAFETY: the kernel has just filled this member in.
    let before = unsafe { flags.ifr_ifru.ifru_flags };
    flags.ifr_ifru.ifru_flags = before | libc::IFF_UP as libc::c_short;
    configure(&control, libc::SIOCSIFFLAGS as _, &mut flags).map_err(failed("bringing it up"))
}

/// About the interface of that (checked) name.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn configure(fd: &impl AsFd, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all requests that this is called with read or write one ifreq, which lives through the call.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), what, std::ptr::from_mut(request)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_not_take_or_change_are_refused() {
        for good in ["eth0", "outside", "fifteen-bytes-x", "eth0.100"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "sixteen-bytes-xx",
            "a/b",
            "tap%d",
            "a b",
            "a:1",
            ".",
            "..",
            "a\u{7}",
        ] {
            let message = check_name(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("\"{bad}\"")), "{message}");
        }
    }
}
