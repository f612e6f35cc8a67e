//! `ulvs` itself.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::director::{CONNECTIONS, Running};
use crate::{nowhere, output, run, said, ulvs};

fn json(running: &Running, arguments: &[&str]) -> Value {
    let value: Value = serde_json::from_str(&output(running, arguments)).unwrap();
    assert_eq!(value["schema_version"], 1, "{arguments:?}");
    value
}

#[test]
fn services_are_shown_to_people_and_programs() {
    let running = Running::start();
    let text = output(&running, &["services"]);
    assert_eq!(
        text,
        "\
web: tcp 192.0.2.1:80, wlc
  3 connections, 30 packets (3000 bytes) in, 20 packets (2000 bytes) out
  SERVER       METHOD   WEIGHT  ACTIVE  INACTIVE  CONNECTIONS  PACKETS IN  PACKETS OUT  BYTES IN  BYTES OUT  ORIGIN  NEXT HOP
  10.0.0.2:80  dr            1       1         2            3          30           20      3000       2000  file    02:00:00:00:00:07 on eth1
  10.0.0.1:80  fullnat       1       1         2            3          30           20      3000       2000  file    02:00:00:00:00:07 on eth1

dns: udp 192.0.2.1:53, wlc
  3 connections, 30 packets (3000 bytes) in, 20 packets (2000 bytes) out
  no servers
"
    );
    let all = json(&running, &["services", "--json"]);
    assert_eq!(all["services"][0]["servers"][1]["method"], "fullnat");
    assert_eq!(all["services"][0]["totals"]["bytes_in"], 3000);
    for name in ["web", "192.0.2.1:80", "tcp:192.0.2.1:80"] {
        let one = json(&running, &["services", name, "--json"]);
        assert_eq!(one["services"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(one["services"][0]["name"], "web");
    }
}

#[test]
fn connections_are_filtered_and_limited() {
    let running = Running::start();
    let count = |arguments: &[&str]| json(&running, arguments)["connections"].as_array().unwrap().len() as u64;
    assert_eq!(count(&["connections", "--json"]), CONNECTIONS);
    assert_eq!(count(&["connections", "--json", "--limit", "7"]), 7);
    assert_eq!(count(&["connections", "--json", "--limit", "0"]), 0);
    assert_eq!(count(&["connections", "--json", "--service", "dns"]), CONNECTIONS / 3);
    assert_eq!(
        count(&["connections", "--json", "--client", "198.51.100.7"]),
        CONNECTIONS / 250
    );
    assert_eq!(count(&["connections", "--json", "--server", "10.9.9.9"]), 0);
    assert_eq!(
        output(&running, &["connections", "--limit", "1", "--service", "web"]),
        "\
PROTOCOL  STATE         EXPIRES  CLIENT                 VIRTUAL                LOCAL                  SERVER                 METHOD   WORKER
tcp       ESTABLISHED      900s  198.51.100.1:1025      192.0.2.1:80           198.18.0.1:1025        10.0.0.1:80            fullnat       1
"
    );
}

#[test]
fn counters_hide_zeros_unless_all_are_asked_for() {
    let running = Running::start();
    assert_eq!(
        output(&running, &["counters"]),
        "\
COUNTER           TOTAL  WORKER 0  WORKER 1  MEANING
packets_received     30        10        20  Packets received.
"
    );
    assert!(output(&running, &["counters", "--all"]).contains("drop_table_full       0         0         0"));
    assert_eq!(
        json(&running, &["counters", "--json", "--all"])["counters"][1]["values"],
        serde_json::json!([0, 0])
    );
}

#[test]
fn workers_and_status_are_shown() {
    let running = Running::start();
    assert_eq!(
        output(&running, &["workers"]).lines().nth(1).unwrap(),
        "     0     2  ok               25.0%         1500     65536           0        10            9        1          4000     4096           5"
    );
    assert!(output(&running, &["workers"]).contains("     1     3  stuck for 2.3 s  25.0%"));
    assert_eq!(json(&running, &["workers", "--json"])["workers"][1]["core"], 3);
    assert_eq!(
        output(&running, &["status"]),
        "\
ulvsd 0.1.0 (process 77) has been up for 3d 01:02:03.
Configuration: generation 5. Connection table: 65536.

PORT  MODE          QUEUES  MAC
eth0  af_xdp, copy       2    -
"
    );
    assert_eq!(json(&running, &["status", "--json"])["director"]["generation"], 5);
}

#[test]
fn exit_status_says_what_went_wrong() {
    let running = Running::start();
    let not_found = run(&running, &["services", "nobody"]);
    assert_eq!(not_found.status, 4);
    assert!(not_found.err.contains("there is no service 'nobody'"), "{not_found:?}");
    assert_eq!(run(&running, &["connections", "--service", "nobody"]).status, 4);
    assert_eq!(run(&running, &["connections", "--client", "not-an-address"]).status, 2);
    assert_eq!(run(&running, &["reticulate"]).status, 2);
    assert_eq!(run(&running, &[]).status, 2);

    let unreachable = said(ulvs(&nowhere()).arg("status").output().unwrap());
    assert_eq!(unreachable.status, 3);
    assert!(unreachable.err.contains("ulvs-no-director-here") && unreachable.err.contains("Is it running?"));
    let socket = running.path();
    let by_option = said(
        ulvs(&nowhere())
            .arg("status")
            .arg("--socket")
            .arg(socket)
            .output()
            .unwrap(),
    );
    assert_eq!(by_option.status, 0, "{by_option:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let running = Running::start();
    let mut child = ulvs(&running.path())
        .arg("connections")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 8];
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut first).unwrap();
    drop(pipe);
    assert_eq!(&first, b"PROTOCOL");
    let end = said(child.wait_with_output().unwrap());
    assert_eq!((end.status, end.err.as_str()), (0, ""));
}
