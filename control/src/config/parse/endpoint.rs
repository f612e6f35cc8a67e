//! Addresses and ports as they are written: `192.0.2.10:80`, `[2001:db8::10]:80`, `1025-65535`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ulvs_dataplane::address::Address;

use crate::config::error::Findings;
use crate::config::section::At;
use crate::config::source::printable;

/// An address with a port, if one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: Address,
    pub port: Option<u16>,
}

/// What is wrong with a value, and what to do.
struct Problem {
    what: String,
    help: String,
}

impl Problem {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            help: help.into(),
        }
    }
}

/// An address and port as ipvsadm prints them.
pub fn show_endpoint(address: Address, port: u16) -> String {
    std::net::SocketAddr::new(address.into(), port).to_string()
}

/// Reads `ADDRESS[:PORT]`. `role` names the address in messages ("a virtual address"). `takes_any_port`: whether port 0 can stand for all ports here.
pub fn parse_endpoint(
    text: &At<String>,
    role: &str,
    takes_any_port: bool,
    findings: &mut Findings,
) -> Option<At<Endpoint>> {
    let checked = |(ip, port)| match port {
        Some(0) if !takes_any_port => Err(not_a_port("0")),
        port => Ok((check_usable(ip, role)?, port)),
    };
    let read = split_endpoint(&text.value).and_then(checked);
    match read {
        Ok((address, port)) => Some(text.clone().map(|_| Endpoint { address, port })),
        Err(problem) => {
            findings.error(&text.span, problem.what).help(problem.help);
            None
        }
    }
}

/// Reads an address without a port.
pub fn parse_address(text: &At<String>, role: &str, findings: &mut Findings) -> Option<At<Address>> {
    let read = text
        .value
        .parse()
        .map_err(|_| not_an_address(&text.value, "\"192.0.2.10\" or \"2001:db8::10\""));
    match read.and_then(|ip| check_usable(ip, role)) {
        Ok(address) => Some(text.clone().map(|_| address)),
        Err(problem) => {
            findings.error(&text.span, problem.what).help(problem.help);
            None
        }
    }
}

/// Reads `FIRST-LAST`.
pub fn parse_port_range(text: &At<String>, findings: &mut Findings) -> Option<(u16, u16)> {
    let number = |digits: &str| parse_port(digits.trim()).ok().filter(|port| *port != 0);
    let ends = text
        .value
        .split_once('-')
        .and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match ends {
        Some((first, last)) if first > last => {
            let message = format!("the port range ends at {last}, before it begins at {first}");
            findings
                .error(&text.span, message)
                .help(format!("did you mean \"{last}-{first}\"?"));
            None
        }
        Some(ends) => Some(ends),
        None => {
            let message = format!("\"{}\" is not a range of ports", printable(&text.value));
            findings
                .error(&text.span, message)
                .help("write the first and the last port, from 1 to 65535: \"1025-65535\"");
            None
        }
    }
}

fn split_endpoint(text: &str) -> Result<(IpAddr, Option<u16>), Problem> {
    const FORMS: &str = "\"192.0.2.10:80\" or \"[2001:db8::10]:80\"";
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or_else(|| not_an_address(text, FORMS))?;
        let address: Ipv6Addr = inside.parse().map_err(|_| not_an_address(text, FORMS))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address.into(), Some(parse_port(port)?))),
            None if after.is_empty() => Ok((address.into(), None)),
            None => Err(not_an_address(text, FORMS)),
        };
    }
    // Without brackets the last group of an IPv6 address cannot be told from a port.
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::new(
            format!("the IPv6 address \"{text}\" needs brackets"),
            format!("write \"[{text}]\", and a port after the bracket: \"[2001:db8::10]:80\""),
        ));
    }
    let (address, port) = match text.split_once(':') {
        Some((address, port)) => (address, Some(port)),
        None => (text, None),
    };
    let address: Ipv4Addr = address.parse().map_err(|_| not_an_address(text, FORMS))?;
    Ok((address.into(), port.map(parse_port).transpose()?))
}

fn not_an_address(text: &str, forms: &str) -> Problem {
    let looks_like_a_name = text.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit());
    let help = match looks_like_a_name {
        true => format!("write {forms}; names are not looked up"),
        false => format!("write {forms}"),
    };
    Problem::new(format!("\"{}\" is not an address", printable(text)), help)
}

fn parse_port(digits: &str) -> Result<u16, Problem> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if all_digits => Ok(port),
        _ => Err(not_a_port(digits)),
    }
}

fn not_a_port(digits: &str) -> Problem {
    let what = format!("\"{}\" is not a port", printable(digits));
    Problem::new(what, "write a port from 1 to 65535")
}

/// Refuses addresses that no host on a network answers to. `role` names the address in the error, which is a sentence.
pub fn usable_address(ip: IpAddr, role: &str) -> Result<Address, String> {
    check_usable(ip, role).map_err(|problem| problem.what)
}

fn check_usable(ip: IpAddr, role: &str) -> Result<Address, Problem> {
    let unusable = |kind: &str| {
        Problem::new(
            format!("{ip} is {kind}, which cannot be {role}"),
            "write the unicast address of one host",
        )
    };
    match ip {
        IpAddr::V4(v4) => match v4.octets()[0] {
            0 => Err(unusable("unspecified")),
            127 => Err(unusable("a loopback address")),
            224..=239 => Err(unusable("a multicast address")),
            240.. => Err(unusable("a broadcast or reserved address")),
            _ => Ok(ip.into()),
        },
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            // Address holds IPv4 in mapped form: a mapped address in the file would silently become IPv4.
            Some(v4) => Err(Problem::new(
                format!("{ip} is an IPv4 address in IPv6 form"),
                format!("write it as IPv4: \"{v4}\""),
            )),
            None if v6.is_unspecified() => Err(unusable("unspecified")),
            None if v6.is_loopback() => Err(unusable("a loopback address")),
            None if v6.is_multicast() => Err(unusable("a multicast address")),
            // The kernel refuses them too (ip_vs_new_dest): they mean nothing without an interface.
            None if v6.is_unicast_link_local() => Err(unusable("a link-local address")),
            None => Ok(ip.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_or_refused() {
        let read = |text: &str| split_endpoint(text).ok().map(|(ip, port)| (ip.to_string(), port));
        assert_eq!(read("192.0.2.10:80"), Some(("192.0.2.10".into(), Some(80))));
        assert_eq!(read("192.0.2.10"), Some(("192.0.2.10".into(), None)));
        assert_eq!(read("[2001:db8::10]:65535"), Some(("2001:db8::10".into(), Some(65535))));
        assert_eq!(read("[2001:db8::10]"), Some(("2001:db8::10".into(), None)));
        assert_eq!(read("192.0.2.10:0"), Some(("192.0.2.10".into(), Some(0))));
        for wrong in [
            "",
            ":",
            ":80",
            "192.0.2.10:",
            "192.0.2.10:+80",
            "192.0.2.10:65536",
            "192.0.2.10:80:81",
            "192.0.2",
            "010.0.0.1:80",
            "2001:db8::10",
            "[2001:db8::10",
            "[2001:db8::10]80",
            "[2001:db8::10]:",
            "[192.0.2.10]:80",
            "[fe80::1%eth0]:80",
            "www.example.net:80",
            " 192.0.2.10:80",
            "192.0.2.10/32:80",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
