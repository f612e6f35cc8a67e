//! Every recording, file by file: what this ipvsadm says in its place.

use std::fs;

use proptest::prelude::*;
use ulvs_control::api::ClientError;
use ulvs_control::api::changes::Change;
use ulvs_control::api::protocol::ErrorCode;
use ulvs_control::api::views::{Rates, TotalsView, Traffic};
use ulvs_control::change::apply;
use ulvs_control::config::{self, Config};

use super::super::arguments::{self, Arguments};
use super::super::change::change;
use super::super::names::Names;
use super::super::options::Command;
use super::super::{Failure, STATUS_CHANGE_REFUSED, help, save};
use super::{PORT_NAMES, goldens, recorded};
use crate::cli::proc;

/// The service that the recorded mistakes were made with, as the rules of the recording set it up.
const WEB: &str = r#"
[[port]]
interface = "eth0"
[[service]]
protocol = "tcp"
address = "10.0.1.100:80"
method = "nat"
scheduler = "wrr"
[[service.server]]
address = "10.0.1.11:80"
weight = 3
[[service.server]]
address = "10.0.1.12:80"
upper_threshold = 100
lower_threshold = 20
"#;

fn web() -> Config {
    config::parse(WEB, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn parsed(line: &str) -> Arguments {
    arguments::parse("ipvsadm", words(line)).unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

fn changed(line: &str) -> Change {
    change(&parsed(line)).unwrap_or_else(|| panic!("{line} changes nothing"))
}

/// What a command says that is refused, and its exit status, for a director that has the service above.
fn refusal(line: &str) -> (String, u8) {
    let arguments = match arguments::parse("ipvsadm", words(line)) {
        Ok(arguments) => arguments,
        Err(error) => return (error.message + "\n", error.status),
    };
    let Some(change) = change(&arguments) else {
        // As the director answers when nothing matches the selector.
        let error = ClientError::Refused {
            code: ErrorCode::NotFound,
            message: String::new(),
        };
        return match Failure::from(error) {
            Failure::Said(status, message) => (message + "\n", status),
            _ => unreachable!("a refusal is said"),
        };
    };
    match apply(&web(), &[change], true).failures.pop() {
        Some(failure) => (failure.message + "\n", STATUS_CHANGE_REFUSED),
        None => (String::new(), 0),
    }
}

fn names() -> Names {
    Names::new(PORT_NAMES, |_| None)
}

fn totals() -> TotalsView {
    TotalsView {
        workers: vec![Traffic {
            connections: 0x20,
            packets_in: 0x77,
            packets_out: 0x74,
            bytes_in: 0x19BF,
            bytes_out: 0x19DC,
        }],
        rates: Rates {
            connections: 1,
            packets_in: 4,
            packets_out: 4,
            bytes_in: 0xC7,
            bytes_out: 0xC9,
        },
    }
}

fn proc_connections(synchronised: bool) -> String {
    let mut text = proc::connection_headings(synchronised).to_owned();
    for connection in recorded::kernel_connections(if synchronised {
        "proc_conn_sync"
    } else {
        "proc_ip_vs_conn"
    }) {
        text += &proc::connection_line(&connection, synchronised);
    }
    text
}

/// What stands in a recording's place; `None` for what another test compares, `Err` with the reason for what is not there.
fn ours(name: &str, command: &str) -> Option<Result<(String, u8), &'static str>> {
    let line = command.strip_prefix("ipvsadm").unwrap_or_default();
    let text = |text: String| Some(Ok((text, 0)));
    match name {
        "S" => text(save::rules(recorded::services(), &names())),
        "help" => text(help::help("ipvsadm")),
        "version" => text(help::version()),
        "proc_ip_vs" => text(proc::services(4096, &recorded::services())),
        "proc_ip_vs_conn" => text(proc_connections(false)),
        "proc_conn_sync" => text(proc_connections(true)),
        "proc_ip_vs_stats" => text(proc::stats(&totals())),
        "proc_ip_vs_stats_percpu" => text(proc::stats_per_cpu(&totals())),
        "L_daemon_none" => text(String::new()),
        "proc_ip_vs_app" => Some(Err("the kernel had its FTP helper loaded, and there is none here")),
        "L_daemon" => Some(Err("there is no connection synchronisation yet")),
        "sysctl" => Some(Err("there are no sysctls")),
        // A listing.
        "err_noargs" => None,
        name if name.starts_with("err_") => Some(Ok(refusal(line))),
        _ => None,
    }
}

#[test]
fn every_recording_has_its_equal() {
    let Some(directory) = goldens() else { return };
    let (mut equal, mut elsewhere, mut absent) = (0, 0, Vec::new());
    let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "txt")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let (output, status) = rest.rsplit_once("# rc=").unwrap();
        let status: u8 = status.trim().parse().unwrap();
        match ours(&name, first.strip_prefix("# ").unwrap()) {
            Some(Ok((ours, our_status))) => {
                assert_eq!((ours.as_str(), our_status), (output, status), "{name}");
                equal += 1;
            }
            Some(Err(why)) => absent.push(format!("{name}: {why}")),
            None => {
                assert!(super::LISTINGS.contains(&&*name), "{name} is compared nowhere");
                elsewhere += 1;
            }
        }
    }
    println!("{equal} recordings are equal, {elsewhere} listings are compared in other tests, not here: {absent:?}");
    assert!(equal >= 20 && absent.len() <= 3, "{equal} {absent:?}");
}

/// What the recording machine was set up with, saved and read again, comes to the same requests.
#[test]
fn what_is_saved_asks_for_the_same_again() {
    let Some(directory) = goldens() else { return };
    let setup = fs::read_to_string(directory.join("setup.rules")).unwrap();
    // Thresholds are not saved, and order is not kept.
    let asked = |text: &str| {
        let mut changes: Vec<String> = text
            .lines()
            .map(|line| format!("{:?}", without_thresholds(changed(line))))
            .collect();
        changes.sort();
        changes
    };
    let saved = save::rules(recorded::services(), &Names::numeric());
    assert_eq!(asked(&saved), asked(&setup));
}

fn without_thresholds(mut change: Change) -> Change {
    if let Change::AddServer { settings, .. } = &mut change {
        (settings.upper_threshold, settings.lower_threshold) = (0, 0);
    }
    change
}

#[test]
fn options_mean_what_they_mean_in_ipvsadm() {
    let as_json = |line: &str| serde_json::to_value(changed(line)).unwrap();
    let service = |line: &str| as_json(&format!("-A -t 192.0.2.1:80 {line}"))["settings"].clone();
    let server = |line: &str| as_json(&format!("-a -t 192.0.2.1:80 -r 10.0.0.1:8080 {line}"));
    assert_eq!(service("")["scheduler"], "wlc");
    assert_eq!(service("-p")["persistence"]["timeout_seconds"], 360);
    assert_eq!(service("-p 9 -M 255.255.0.0")["persistence"]["prefix_length"], 16);
    assert_eq!(service("-s sh -b sh-port,flag-1")["scheduler_flags"][1], "flag-1");
    assert_eq!(server("")["settings"]["method"], "dr");
    assert_eq!(server("")["settings"]["weight"], 1);
    assert_eq!(server("-m -w 0 -x 9 -y 3")["settings"]["upper_threshold"], 9);
    assert_eq!(server("-i")["settings"]["tunnel"]["kind"], "ipip");
    assert_eq!(
        server("-i --tun-type gue --tun-port 6080")["settings"]["tunnel"]["port"],
        6080
    );
    for full_nat in ["-b", "--fullnat", "-b -w 3"] {
        assert_eq!(server(full_nat)["settings"]["method"], "fullnat", "{full_nat}");
    }
    assert_eq!(as_json("-eb -t 192.0.2.1:80 -r 10.0.0.1")["server"]["port"], 0);
    assert_eq!(
        as_json("-a -t 192.0.2.1:80 -r [2001:db8::1]:80 -b")["change"],
        "add_server"
    );
    assert_eq!(
        as_json("-P -t 192.0.2.1:80 -z 10.0.9.1 -F dpdk0")["address"],
        "10.0.9.1"
    );
    assert_eq!(as_json("-Z")["change"], "zero");
    assert_eq!(as_json("--set 0 0 30")["udp_seconds"], 30);
    assert_eq!(as_json("--stop-daemon backup")["role"], "backup");
    assert_eq!(parsed("-R --atomic").command, Command::Restore);
}

#[test]
fn extras_are_checked_like_the_rest() {
    for (line, message) in [
        (
            "-P -t 192.0.2.1:80",
            "You need to supply the 'laddr' option for the 'add-laddr' command",
        ),
        (
            "-Q -z 10.0.0.1",
            "You need to supply the 'service-address' option for the 'del-laddr' command",
        ),
        ("-P -t 192.0.2.1:80 -z ", "illegal local address specified"),
        ("-C --atomic", "Illegal 'atomic' option with the 'flush' command"),
        ("-L -z 10.0.0.1", "Illegal 'laddr' option with the 'list' command"),
        (
            "-a -t 192.0.2.1:80 -r 10.0.0.1 -b -m",
            "multiple 'forwarding-method' options specified",
        ),
        (
            "-a -t 192.0.2.1:80 -r 10.0.0.1 -b --tun-type gre",
            "Tunnel options conflict with forward method",
        ),
        (
            "-d -t 192.0.2.1:80 -r 10.0.0.1 -b flag-1",
            "Illegal 'sched-flags' option with the 'delete-server' command",
        ),
    ] {
        let mut words = words(line);
        if line.ends_with(' ') {
            words.push(String::new());
        }
        let error = arguments::parse("ipvsadm", words).expect_err(line);
        assert_eq!((error.status, error.message.as_str()), (2, message), "{line}");
    }
}

proptest! {
    /// What a change comes from and goes over the socket as is what the director reads.
    #[test]
    fn changes_survive_the_wire(weight in 0_u32..70_000, port in 0_u16.., upper in 0_u32..10) {
        let change = changed(&format!("-a -t 192.0.2.1:80 -r 10.0.0.1:{port} -m -w {weight} -x {upper}"));
        let text = serde_json::to_string(&change).unwrap();
        prop_assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
    }
}
