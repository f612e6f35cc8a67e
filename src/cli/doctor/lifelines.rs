//! The interfaces that the operator sits on: those of the default route and of ssh sessions, and what is below them.

use std::collections::BTreeMap;

use super::host::Host;

/// Interface → why it must not be taken away.
pub(super) type Lifelines = BTreeMap<String, &'static str>;

const DEFAULT_ROUTE: &str = "the default route";
const SSH: &str = "an ssh session";
const SSH_PORT: u16 = 22;
/// TCP_ESTABLISHED as /proc/net/tcp writes it.
const ESTABLISHED: &str = "01";

/// An address of either family, its bits at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    is_ipv6: bool,
    bits: u128,
}

#[derive(Debug)]
struct Route {
    network: Bits,
    length: u32,
    interface: String,
}

pub(super) fn gather(host: &Host) -> Lifelines {
    let text = |path: &str| host.text(path).unwrap_or_default();
    let mut routes: Vec<Route> = text("/proc/net/route").lines().filter_map(ipv4_route).collect();
    routes.extend(text("/proc/net/ipv6_route").lines().filter_map(ipv6_route));
    let mut lifelines = Lifelines::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let clients = text(table);
        let clients = clients.lines().filter_map(ssh_client);
        let interfaces = clients.filter_map(|client| towards(&routes, client));
        lifelines.extend(interfaces.map(|interface| (interface.to_owned(), SSH)));
    }
    let defaults = routes.iter().filter(|route| route.length == 0);
    lifelines.extend(defaults.map(|route| (route.interface.clone(), DEFAULT_ROUTE)));
    // A bond, bridge or VLAN stands on others, and these perhaps on others again.
    let mut unfinished: Vec<(String, &str)> = lifelines.iter().map(|(name, why)| (name.clone(), *why)).collect();
    while let Some((upper, why)) = unfinished.pop() {
        for entry in host.names(&format!("/sys/class/net/{upper}")) {
            if let Some(lower) = entry.strip_prefix("lower_")
                && !lifelines.contains_key(lower)
            {
                lifelines.insert(lower.to_owned(), why);
                unfinished.push((lower.to_owned(), why));
            }
        }
    }
    lifelines
}

/// The interface of the longest prefix that holds an address.
fn towards(routes: &[Route], address: Bits) -> Option<&str> {
    let holds = |route: &&Route| {
        let mask = u128::MAX.checked_shl(128 - route.length).unwrap_or(0);
        route.network.is_ipv6 == address.is_ipv6 && (route.network.bits ^ address.bits) & mask == 0
    };
    let best = routes.iter().filter(holds).max_by_key(|route| route.length)?;
    Some(&best.interface)
}

/// A word of an address as /proc writes it: the number that the four bytes are to this processor.
fn word(text: &str) -> Option<u32> {
    Some(u32::from_be_bytes(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()))
}

/// `eth0 0002000A 00000000 0001 0 0 0 00FFFFFF ...`: interface, network, gateway, flags, references, use, metric, mask.
fn ipv4_route(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(Route {
        network: Bits {
            is_ipv6: false,
            bits: u128::from(word(words.get(1)?)?) << 96,
        },
        length: word(words.get(7)?)?.count_ones(),
        interface: (*words.first()?).to_owned(),
    })
}

/// Network, length, source, its length, gateway, metric, references, use, flags, interface.
fn ipv6_route(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let interface = *words.get(9)?;
    // Entries on lo are refusals and the box's own addresses.
    (interface != "lo").then_some(())?;
    Some(Route {
        network: Bits {
            is_ipv6: true,
            bits: u128::from_str_radix(words.first()?, 16).ok()?,
        },
        length: u32::from_str_radix(words.get(1)?, 16)
            .ok()
            .filter(|length| *length <= 128)?,
        interface: interface.to_owned(),
    })
}

/// The other end of an established connection to the ssh port: number, local, remote, state.
fn ssh_client(line: &str) -> Option<Bits> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = words.get(1)?.split_once(':')?;
    let is_ssh = u16::from_str_radix(local_port, 16) == Ok(SSH_PORT) && *words.get(3)? == ESTABLISHED;
    is_ssh.then_some(())?;
    let (address, _) = words.get(2)?.split_once(':')?;
    let part = |at: usize| word(address.get(at..at + 8)?).map(u128::from);
    if address.len() == 8 {
        return Some(Bits {
            is_ipv6: false,
            bits: part(0)? << 96,
        });
    }
    let bits = part(0)? << 96 | part(8)? << 64 | part(16)? << 32 | part(24)?;
    // ::ffff:a.b.c.d, an IPv4 client of a socket of both families (RFC 4291 section 2.5.5.2).
    if bits >> 32 == 0xffff {
        return Some(Bits {
            is_ipv6: false,
            bits: bits << 96,
        });
    }
    Some(Bits { is_ipv6: true, bits })
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn routes() -> Vec<Route> {
        let ipv4 = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT",
            "eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            "eth1\t0003000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        ];
        let ipv6 = [
            "20010db8000100000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 00000001 eth2",
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 1 0 00200200 lo",
        ];
        ipv4.into_iter()
            .filter_map(ipv4_route)
            .chain(ipv6.into_iter().filter_map(ipv6_route))
            .collect()
    }

    #[test]
    fn the_way_back_to_an_ssh_client_is_found() {
        let line = |local: &str, remote: &str, state: &str| format!("0: {local} {remote} {state} 00000000:00000000");
        let interface = |line: &str| towards(&routes(), ssh_client(line)?).map(str::to_owned);
        assert_eq!(
            interface(&line("0103000A:0016", "0903000A:C001", "01")).as_deref(),
            Some("eth1")
        );
        assert_eq!(
            interface(&line("0103000A:0016", "08080808:C001", "01")).as_deref(),
            Some("eth0")
        );
        assert_eq!(
            interface(&line("0103000A:0016", "00000000:0000", "0A")),
            None,
            "a listener"
        );
        assert_eq!(
            interface(&line("0103000A:0050", "0903000A:C001", "01")),
            None,
            "another port"
        );
        let (local, client) = (
            "B80D0120000001000000000001000000:0016",
            "B80D0120000001000000000009000000:C001",
        );
        assert_eq!(interface(&line(local, client, "01")).as_deref(), Some("eth2"));
        let mapped = "0000000000000000FFFF00000903000A:C001";
        assert_eq!(interface(&line(local, mapped, "01")).as_deref(), Some("eth1"));
        assert_eq!(interface("sl  local_address rem_address   st"), None);
    }
}
