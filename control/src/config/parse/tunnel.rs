//! `tunnel`, `tunnel_port` and `tunnel_checksum` of a server, which it takes from its service where it has none of its own.

use ulvs_dataplane::service::{ForwardingMethod, GueChecksum, TunnelType};

use crate::config::error::Findings;
use crate::config::names::{TUNNEL_CHECKSUMS, TUNNELS, TunnelWord, method_name};
use crate::config::section::{At, Section};
use crate::config::source::Span;

/// Reads the tunnel to a server with this method. What the service says for its other servers is no error here; what the server itself says has to fit.
pub fn parse_tunnel(
    server: &Section,
    service: &Section,
    method: &At<ForwardingMethod>,
    findings: &mut Findings,
) -> TunnelType {
    let own = |key: &str| server.place(key).filter(|place| place.given).map(|place| place.span);
    if method.value != ForwardingMethod::Tunnel {
        if let Some(span) = ["tunnel", "tunnel_port", "tunnel_checksum"].into_iter().find_map(own) {
            let method = method_name(method.value);
            findings
                .error(
                    &span,
                    format!("this server is reached by {method}, which has no outer header"),
                )
                .help("leave it out, or write method = \"tun\"");
        }
        return TunnelType::Ipip;
    }
    let kind = server
        .find_choice("tunnel", &TUNNELS)
        .unwrap_or_else(|| service.choice("tunnel", &TUNNELS));
    let checksum = server
        .find_choice("tunnel_checksum", &TUNNEL_CHECKSUMS)
        .unwrap_or_else(|| service.choice("tunnel_checksum", &TUNNEL_CHECKSUMS));
    let port = server
        .find_integer("tunnel_port")
        .or_else(|| service.find_integer("tunnel_port"));
    if let Some(span) = own("tunnel_port").filter(|_| kind.value != TunnelWord::Gue) {
        misplaced(&span, "tunnel_port", "is for tunnel = \"gue\"", findings);
    }
    let own_checksum = own("tunnel_checksum").filter(|_| checksum.value != GueChecksum::None);
    match kind.value {
        TunnelWord::Ipip => {
            if let Some(span) = own_checksum {
                misplaced(
                    &span,
                    "tunnel_checksum",
                    "is for tunnel = \"gue\" and \"gre\"",
                    findings,
                );
            }
            TunnelType::Ipip
        }
        TunnelWord::Gue => {
            let readable = server.is_readable("tunnel_port") && service.is_readable("tunnel_port");
            if port.is_none() && readable {
                findings
                    .error(&kind.span, "gue needs the UDP port of the server's tunnel")
                    .help("write it in tunnel_port; Linux servers usually listen on 6080 (ip fou add port 6080 gue)");
            }
            TunnelType::Gue {
                port: port.map_or(0, |port| port.value as u16),
                checksum: checksum.value,
            }
        }
        TunnelWord::Gre => {
            if let Some(span) = own_checksum.filter(|_| checksum.value == GueChecksum::Remote) {
                misplaced(
                    &span,
                    "tunnel_checksum = \"remote\"",
                    "is for tunnel = \"gue\"",
                    findings,
                );
            }
            TunnelType::Gre {
                checksum: checksum.value != GueChecksum::None,
            }
        }
    }
}

fn misplaced(span: &Span, what: &str, why: &str, findings: &mut Findings) {
    findings
        .error(span, format!("{what} {why}"))
        .help("leave it out, or name that tunnel");
}
