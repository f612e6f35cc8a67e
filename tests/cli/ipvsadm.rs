//! ipvsadm's command line, under both names.

use std::os::unix::fs::symlink;

use crate::director::{CONNECTIONS, Running};
use crate::{Said, command, nowhere, output, said};

/// Runs the program under the name `ipvsadm`.
pub fn ipvsadm(running: &Running, arguments: &[&str]) -> Said {
    let name = running.directory.path().join("ipvsadm");
    if !name.exists() {
        symlink(env!("CARGO_BIN_EXE_ulvs"), &name).unwrap();
    }
    said(command(&name, &running.path()).args(arguments).output().unwrap())
}

const LISTING: &str = "\
IP Virtual Server version 1.2.1 (size=65536)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.1:80 wlc
  -> 10.0.0.1:80                  FullNat 1      1          2         \n  -> 10.0.0.2:80                  Route   1      1          2         \nUDP  192.0.2.1:53 wlc
";

#[test]
fn listings_are_the_same_under_both_names() {
    let running = Running::start();
    assert_eq!(output(&running, &["ipvsadm", "-Ln"]), LISTING);
    for arguments in [&["-Ln"][..], &["-ln"], &["-L", "-n"], &["--list", "--numeric"]] {
        let Said { status, out, err } = ipvsadm(&running, arguments);
        assert_eq!((status, out.as_str(), err.as_str()), (0, LISTING, ""), "{arguments:?}");
    }
    let one = ipvsadm(&running, &["-Ln", "--stats", "-u", "192.0.2.1:53"]);
    assert_eq!(
        one.out,
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
UDP  192.0.2.1:53                        3       30       20     3000     2000
"
    );
    assert_eq!(
        ipvsadm(&running, &["-L", "--timeout"]).out,
        "Timeout (tcp tcpfin udp): 900 120 300\n"
    );
    let none = ipvsadm(&running, &["-L", "--daemon"]);
    assert_eq!((none.status, none.out.as_str()), (0, ""));
}

#[test]
fn connections_are_listed() {
    let running = Running::start();
    let listed = ipvsadm(&running, &["-Lnc"]).out;
    let mut lines = listed.lines();
    assert_eq!(lines.next(), Some("IPVS connection entries"));
    assert_eq!(
        lines.next(),
        Some("pro expire state       source             virtual            destination")
    );
    assert_eq!(
        lines.next(),
        Some("UDP 15:00  UDP         198.51.100.0:1024  192.0.2.1:53       10.0.0.1:80")
    );
    assert_eq!(
        lines.next(),
        Some("TCP 15:00  ESTABLISHED 198.51.100.1:1025  192.0.2.1:80       10.0.0.1:80")
    );
    assert_eq!(lines.count() as u64, CONNECTIONS - 2);
}

#[test]
fn refusals_have_ipvsadms_words_and_status() {
    let running = Running::start();
    let missing = ipvsadm(&running, &["-Ln", "-t", "192.0.2.1:9999"]);
    assert_eq!(
        (missing.status, missing.out.as_str(), missing.err.as_str()),
        (1, "", "No such service\n")
    );
    let illegal = ipvsadm(&running, &["-L", "-s", "rr"]);
    assert_eq!(
        (illegal.status, illegal.err.as_str()),
        (2, "Illegal 'scheduler' option with the 'list' command\n")
    );
    let unknown = ipvsadm(&running, &["--nosuch"]);
    assert_eq!(unknown.status, 255);
    assert!(
        unknown.err.starts_with("Try `") && unknown.err.contains("/ipvsadm -h' or '"),
        "{unknown:?}"
    );
    let rate = ipvsadm(&running, &["-Ln", "--rate"]);
    assert_eq!((rate.status, rate.out.as_str()), (1, ""));
    assert!(rate.err.contains("--rate is not available"), "{rate:?}");
}

#[test]
fn help_and_version_need_no_director() {
    let run = |argument| {
        said(
            command(env!("CARGO_BIN_EXE_ulvs").as_ref(), &nowhere())
                .args(["ipvsadm", argument])
                .output()
                .unwrap(),
        )
    };
    let version = run("-v");
    assert_eq!(
        (version.status, version.out.as_str()),
        (0, "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n")
    );
    let help = run("-h");
    assert_eq!(help.status, 0);
    assert!(
        help.out.starts_with(&version.out) && help.out.contains("--persistent-conn"),
        "{help:?}"
    );
    let listing = run("-Ln");
    assert_eq!(listing.status, 2);
    assert!(listing.err.contains("cannot reach ulvsd"), "{listing:?}");
    for argument in ["-C", "-S", "-R", "-G"] {
        assert_eq!(run(argument).status, 2, "{argument}");
    }
}
