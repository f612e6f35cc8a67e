//! Names of hosts and ports, as ipvsadm prints them without `-n` and reads them on its command line.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::sync::OnceLock;

use ulvs_control::api::views::Protocol;

/// The list of ports and their names that the C library reads too.
const SERVICES_FILE: &str = "/etc/services";

/// How to find the name of a host.
type HostLookup = fn(IpAddr) -> Option<String>;

/// Writes addresses and ports, as numbers or as names.
#[derive(Debug)]
pub struct Names {
    ports: HashMap<(u16, String), String>,
    host_lookup: Option<HostLookup>,
    /// Each host is looked up once: a name server may be slow to answer, or not answer at all.
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

impl Names {
    /// Numbers only (`-n`).
    pub fn numeric() -> Names {
        Names {
            ports: HashMap::new(),
            host_lookup: None,
            hosts: RefCell::default(),
        }
    }

    /// Names where the system knows them.
    pub fn of_system() -> Names {
        // Without that file there are no names, which is what the C library makes of it.
        let services = fs::read_to_string(SERVICES_FILE).unwrap_or_default();
        Names::new(&services, reverse_lookup)
    }

    /// Port names from the text of a services file, host names from `host_lookup`.
    pub fn new(services: &str, host_lookup: HostLookup) -> Names {
        let mut ports = HashMap::new();
        for (name, port, protocol, _) in service_lines(services) {
            // The first line for a port counts.
            ports
                .entry((port, protocol.to_owned()))
                .or_insert_with(|| name.to_owned());
        }
        Names {
            ports,
            host_lookup: Some(host_lookup),
            hosts: RefCell::default(),
        }
    }

    /// `address:port`, with brackets around IPv6.
    pub fn endpoint(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        let host = self.host(address).unwrap_or_else(|| address.to_string());
        let port = match self.ports.get(&(port, protocol.name().to_owned())) {
            Some(name) => name.clone(),
            None => port.to_string(),
        };
        if address.is_ipv6() {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        let lookup = self.host_lookup?;
        self.hosts
            .borrow_mut()
            .entry(address)
            .or_insert_with(|| lookup(address))
            .clone()
    }
}

/// The lines of a services file: name, port, protocol, aliases.
fn service_lines(text: &str) -> impl Iterator<Item = (&str, u16, &str, Vec<&str>)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split('#').next()?.split_whitespace();
        let name = fields.next()?;
        let (port, protocol) = fields.next()?.split_once('/')?;
        Some((name, port.parse().ok()?, protocol, fields.collect()))
    })
}

/// The host's name by the system's resolver (`/etc/hosts`, then DNS, or whatever it is told to ask).
fn reverse_lookup(address: IpAddr) -> Option<String> {
    // An address without a name comes back as its own text.
    dns_lookup::lookup_addr(&address)
        .ok()
        .filter(|name| name.parse::<IpAddr>().is_err())
}

/// The address of a host given as an address or a name.
pub fn host_address(host: &str) -> Option<IpAddr> {
    if host.is_empty() {
        return None;
    }
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    // Like the original, a name stands for its IPv4 address.
    dns_lookup::lookup_host(host).ok()?.into_iter().find(IpAddr::is_ipv4)
}

/// The same for what stands in brackets: an IPv6 address, or the name of one.
pub fn host_address_v6(host: &str) -> Option<IpAddr> {
    match host.parse() {
        Ok(address) => Some(address),
        Err(_) if host.is_empty() => None,
        Err(_) => dns_lookup::lookup_host(host).ok()?.into_iter().find(IpAddr::is_ipv6),
    }
}

/// The port given as a number or as a service's name.
pub fn port_number(port: &str, protocol: Protocol) -> Option<u16> {
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return port.parse().ok();
    }
    // Rule files have thousands of names: the list is read once.
    static NUMBERS: OnceLock<PortNumbers> = OnceLock::new();
    let numbers = NUMBERS.get_or_init(|| port_numbers(&fs::read_to_string(SERVICES_FILE).unwrap_or_default()));
    numbers.get(&(port.to_owned(), protocol.name().to_owned())).copied()
}

/// Ports by name and protocol.
type PortNumbers = HashMap<(String, String), u16>;

fn port_numbers(services: &str) -> PortNumbers {
    let mut numbers = HashMap::new();
    for (name, port, protocol, aliases) in service_lines(services) {
        for name in std::iter::once(name).chain(aliases) {
            // The first line for a name counts.
            numbers.entry((name.to_owned(), protocol.to_owned())).or_insert(port);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str =
        "# ports\nhttp\t80/tcp\twww # web\ndomain 53/tcp\ndomain 53/udp\nsecond 80/tcp\nbroken 1x/tcp\n";

    fn no_host(_: IpAddr) -> Option<String> {
        None
    }

    #[test]
    fn ports_have_names_in_both_directions() {
        let names = Names::new(SERVICES, no_host);
        let v4 = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(names.endpoint(v4, 80, Protocol::Tcp), "192.0.2.1:http");
        assert_eq!(names.endpoint(v4, 80, Protocol::Udp), "192.0.2.1:80");
        assert_eq!(Names::numeric().endpoint(v4, 80, Protocol::Tcp), "192.0.2.1:80");
        let numbers = port_numbers(SERVICES);
        let number = |name: &str, protocol: &str| numbers.get(&(name.to_owned(), protocol.to_owned())).copied();
        assert_eq!(number("www", "tcp"), Some(80));
        assert_eq!(number("domain", "udp"), Some(53));
        assert_eq!(number("domain", "sctp"), None);
    }

    #[test]
    fn hosts_have_names_and_ipv6_keeps_its_brackets() {
        let names = Names::new(SERVICES, |_| Some("vip.example.net".to_owned()));
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(names.endpoint(v6, 80, Protocol::Tcp), "[vip.example.net]:http");
        assert_eq!(Names::numeric().endpoint(v6, 80, Protocol::Tcp), "[2001:db8::1]:80");
    }
}
