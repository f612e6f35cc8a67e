//! The listings against what ipvsadm 1.31 printed for the same rules on a real kernel, byte for byte, and the command line against its
//! messages.

mod command_line;
mod recorded;
mod recordings;

use std::fs;
use std::path::PathBuf;

use ulvs_control::api::protocol::ServiceSelector;
use ulvs_control::api::views::{ServiceView, TimeoutsView};

use super::arguments;
use super::listing::{self, Columns, Format};
use super::names::Names;
use super::options::Opt;

/// Where the recordings are, or `None` (and a note) where they are not.
fn goldens() -> Option<PathBuf> {
    let configured = std::env::var_os("ULVS_GOLDENS").map(PathBuf::from);
    let root = configured.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/goldens"));
    let directory = root.join("ipvs/ipvsadm");
    if directory.is_dir() {
        return Some(directory);
    }
    println!("skipped: no recordings at {}", directory.display());
    None
}

/// The command line, the text and the exit status of a recording.
fn recording(name: &str) -> Option<(Vec<String>, String, u8)> {
    let text = fs::read_to_string(goldens()?.join(format!("{name}.txt"))).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let (output, status) = rest.rsplit_once("# rc=").unwrap();
    let words = first
        .strip_prefix("# ipvsadm")
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    Some((words, output.to_owned(), status.trim().parse().unwrap()))
}

/// The recordings that the tests here compare.
const LISTINGS: &[&str] = &[
    "L",
    "Ln",
    "Ln_stats",
    "Ln_rate",
    "Ln_rate_exact",
    "Ln_one",
    "Ln_one_stats",
    "Ln_persistent",
    "Ln_nosort",
    "Ln_fwm",
    "after_dr_port",
    "after_ops_tcp",
    "err_noargs",
    "after_zero",
    "L_timeout",
    "L_timeout_set",
    "L_timeout_set0",
    "Lnc",
];

/// The port names that the recording machine knew.
const PORT_NAMES: &str = "ftp 21/tcp\ndomain 53/udp\nhttp 80/tcp www\nhttps 443/tcp\nsip 5060/udp\n";

/// What the command prints for `services`, put together as the command does, but for the names that its machine knew.
fn printed(words: Vec<String>, services: Vec<ServiceView>) -> String {
    let arguments = arguments::parse("ipvsadm", words).unwrap();
    let numeric = arguments.has(Opt::Numeric);
    let names = if numeric {
        Names::numeric()
    } else {
        Names::new(PORT_NAMES, |_| None)
    };
    let format = Format {
        names,
        ..super::format(&arguments)
    };
    let wanted = |service: &ServiceView| arguments.service.as_ref().is_none_or(|wanted| wanted.matches(service));
    let chosen = services.into_iter().filter(wanted).collect();
    let banner = if arguments.service.is_none() {
        listing::banner(4096)
    } else {
        String::new()
    };
    banner + &listing::services(chosen, &format)
}

fn check(name: &str, services: Vec<ServiceView>) {
    let Some((words, output, status)) = recording(name) else {
        return;
    };
    assert_eq!(status, 0);
    assert_eq!(printed(words, services), output, "{name}");
}

#[test]
fn listings_equal_the_recorded_ones() {
    for name in [
        "L",
        "Ln",
        "Ln_stats",
        "Ln_rate",
        "Ln_rate_exact",
        "Ln_one",
        "Ln_one_stats",
        "Ln_persistent",
        "Ln_nosort",
        "Ln_fwm",
    ] {
        check(name, recorded::services());
    }
}

#[test]
fn listings_after_changes_equal_the_recorded_ones() {
    let mut services = recorded::services();
    recorded::add_third_server(&mut services);
    for name in ["after_dr_port", "after_ops_tcp", "err_noargs"] {
        check(name, services.clone());
    }
    recorded::zero(&mut services);
    check("after_zero", services);
}

#[test]
fn timeouts_equal_the_recorded_ones() {
    for (name, tcp_seconds, tcp_fin_seconds, udp_seconds) in [
        ("L_timeout", 900, 120, 300),
        ("L_timeout_set", 1000, 60, 200),
        ("L_timeout_set0", 1000, 60, 30),
    ] {
        let Some((words, output, _)) = recording(name) else {
            return;
        };
        assert!(arguments::parse("ipvsadm", words).unwrap().has(Opt::Timeout));
        assert_eq!(
            listing::timeouts(&TimeoutsView {
                tcp_seconds,
                tcp_fin_seconds,
                udp_seconds
            }),
            output
        );
    }
}

#[test]
fn connections_equal_the_recorded_ones() {
    let Some((words, output, _)) = recording("Lnc") else {
        return;
    };
    let arguments = arguments::parse("ipvsadm", words).unwrap();
    assert!(arguments.has(Opt::Connection) && arguments.has(Opt::Numeric));
    let kernel = recorded::kernel_connections("proc_ip_vs_conn");
    let mut text = super::connections::headings(false);
    for connection in &kernel {
        text += &super::connections::line(connection, &Names::numeric(), false);
    }
    // Seconds went by between the two recordings, and the kernel may list what it lists in another order.
    let comparable = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(recorded::without_expiry).collect();
        lines.sort();
        lines
    };
    assert_eq!(comparable(&text), comparable(&output));
}

#[test]
fn connections_of_engines_and_templates_are_printed_as_ipvsadm_prints_them() {
    let [template, call] = recorded::template_and_call();
    let line = |connection, with_engine| super::connections::line(connection, &Names::numeric(), with_engine);
    assert_eq!(
        line(&template, false),
        "IP  1646:05 NONE        10.0.9.2:0         0.0.0.7:0          10.0.1.11:0\n"
    );
    assert_eq!(
        line(&call, false),
        "UDP 01:46  UDP         10.0.9.2:5060      10.0.1.100:5060    10.0.1.11:5060\n"
    );
    assert_eq!(
        line(&call, true),
        "UDP 01:46  UDP         10.0.9.2:5060      10.0.1.100:5060    10.0.1.11:5060   sip                abc\n"
    );
    assert_eq!(line(&template, true), line(&template, false));
    assert_eq!(
        super::connections::headings(true),
        "IPVS connection entries\npro expire state       source             virtual            destination        pe name          pe_data\n"
    );
}

fn plain(columns: Columns) -> Format {
    Format {
        columns,
        exact: false,
        sorted: true,
        names: Names::numeric(),
    }
}

#[test]
fn thresholds_and_tunnels_have_their_columns() {
    let wanted = ServiceSelector::Address {
        protocol: None,
        address: [10, 0, 1, 100].into(),
        port: Some(80),
    };
    let web: Vec<_> = recorded::services()
        .into_iter()
        .filter(|service| wanted.matches(service))
        .collect();
    assert_eq!(
        listing::services(web, &plain(Columns::Thresholds)),
        "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n\
         TCP  10.0.1.100:80 wrr\n\
         \x20 -> 10.0.1.11:80                 0          0          0          19        \n\
         \x20 -> 10.0.1.12:80                 100        20         0          7         \n"
    );
    let tunnels: Vec<_> = recorded::services()
        .into_iter()
        .filter(|service| service.port == 8443)
        .collect();
    assert_eq!(
        listing::services(tunnels, &plain(Columns::TunInfo)),
        "Prot LocalAddress:Port Scheduler Flags\n\
         \x20 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n\
         TCP  10.0.1.100:8443 mh (mh-fallback,mh-port)\n\
         \x20 -> 10.0.1.11:8443               Tunnel  gue:6080:-c   1      0          0         \n\
         \x20 -> 10.0.1.12:8443               Tunnel  gre:-c        1      0          0         \n"
    );
}

#[test]
fn full_nat_is_spelled_as_in_dpvs_and_long_ipv4_names_are_cut() {
    let mut service = recorded::services().remove(7);
    service.servers.truncate(1);
    service.servers[0].method = ulvs_control::api::views::Method::Fullnat;
    let names = Names::new("", |_| {
        Some("averyveryveryveryverylong.hostname.example.com".to_owned())
    });
    let format = Format {
        names,
        ..plain(Columns::Plain)
    };
    let text = listing::services(vec![service], &format);
    let lines: Vec<_> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "TCP  averyveryveryveryverylong.ho wrr",
            "  -> averyveryveryveryverylong.ho FullNat 1      0          7         "
        ]
    );
}

/// Two services more than 2^31 apart come out in this order from ipvsadm 1.31, whichever way they went in; for more of them
/// the order is the sorting algorithm's.
#[test]
fn addresses_far_apart_are_sorted_as_ipvsadm_sorts_them() {
    let order = |addresses: &[[u8; 4]]| {
        let template = recorded::services().remove(7);
        let mut services: Vec<_> = addresses
            .iter()
            .map(|octets| ServiceView {
                address: (*octets).into(),
                ..template.clone()
            })
            .collect();
        super::order::sort_services(&mut services);
        services
            .iter()
            .map(|service| service.address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order(&[[10, 0, 1, 100], [192, 168, 1, 1]]),
        ["192.168.1.1", "10.0.1.100"]
    );
    assert_eq!(
        order(&[[192, 168, 1, 1], [10, 0, 1, 100]]),
        ["192.168.1.1", "10.0.1.100"]
    );
    assert_eq!(
        order(&[[10, 0, 1, 100], [192, 168, 1, 1], [100, 64, 0, 1]]),
        ["10.0.1.100", "100.64.0.1", "192.168.1.1"]
    );
    let nine = [
        [100, 198, 0, 183],
        [203, 202, 0, 187],
        [100, 227, 0, 247],
        [172, 187, 0, 25],
        [10, 69, 0, 127],
        [172, 132, 0, 248],
        [1, 223, 0, 200],
        [1, 154, 0, 108],
        [100, 197, 0, 147],
    ];
    assert_eq!(
        order(&nine),
        [
            "100.198.0.183",
            "100.227.0.247",
            "172.132.0.248",
            "172.187.0.25",
            "203.202.0.187",
            "1.154.0.108",
            "1.223.0.200",
            "10.69.0.127",
            "100.197.0.147"
        ]
    );
}
