//! Commands that change something, against a director that takes changes.

use std::io::Write;
use std::process::Stdio;

use ulvs_control::config::{self, Config};

use crate::director::Running;
use crate::ipvsadm::ipvsadm;
use crate::{Said, output, run, said, ulvs};

fn config(services: &str) -> Config {
    let text = format!("[[port]]\ninterface = \"eth0\"\n{services}");
    config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn empty() -> Running {
    Running::start_with(config(""))
}

fn done(running: &Running, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Said { status, out, err } = ipvsadm(running, &words);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", ""), "{line}");
}

fn refused(running: &Running, line: &str) -> (i32, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let said = ipvsadm(running, &words);
    assert_eq!(said.out, "", "{line}");
    (said.status, said.err)
}

fn restore(running: &Running, arguments: &[&str], rules: &str) -> Said {
    let mut child = ulvs(&running.path())
        .args(["ipvsadm", "-R"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

const RULES: &str = "\
-A -t 192.0.2.1:80 -s wrr
-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 3
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -g -w 0
-A -t 192.0.2.1:443 -s sh -b sh-fallback,sh-port
-P -t 192.0.2.1:443 -z 10.0.9.1
-a -t 192.0.2.1:443 -r 10.0.0.1:8443 -b -w 1
-A -u 192.0.2.1:53 -s sed
-a -u 192.0.2.1:53 -r 10.0.0.1:53 -i -w 1 --tun-type ipip
-a -u 192.0.2.1:53 -r 10.0.0.2:53 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -u 192.0.2.1:53 -r 10.0.0.3:53 -i -w 1 --tun-type gre --tun-csum
-A -u 192.0.2.1:514 -s rr -o
-a -u 192.0.2.1:514 -r 10.0.0.1:514 -m -w 1
-A --sctp-service 192.0.2.1:5000 -s lblcr -p 60 -M 255.255.255.0
-a --sctp-service 192.0.2.1:5000 -r 10.0.0.1:5000 -m -w 1
-A -t [2001:db8::1]:80 -s mh -p 300 -M 64
-a -t [2001:db8::1]:80 -r [fd00::1]:80 -m -w 1
";

#[test]
fn what_is_saved_restores_the_same() {
    let first = empty();
    let said = restore(&first, &[], RULES);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    assert_eq!(output(&first, &["ipvsadm", "-Sn"]), RULES);
    // By name too.
    let second = empty();
    let named = output(&first, &["ipvsadm", "-S"]);
    assert_eq!(restore(&second, &["--atomic"], &named).status, 0, "{named}");
    assert_eq!(output(&second, &["ipvsadm", "-Sn"]), RULES);
    assert_eq!(ipvsadm(&second, &["-Ln"]).out, ipvsadm(&first, &["-Ln"]).out);
}

#[test]
fn services_and_servers_come_change_and_go() {
    let running = empty();
    for line in [
        "-A -t 192.0.2.1:80",
        "-a -t 192.0.2.1:80 -r 10.0.0.1 -m",
        "-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -g -w 7 -x 100 -y 20",
        "-E -t 192.0.2.1:80 -s rr",
        "-e -t 192.0.2.1:80 -r 10.0.0.1 -m -w 0",
        "-Z",
        "-Z -t 192.0.2.1:80",
        "--set 1000 0 30",
    ] {
        done(&running, line);
    }
    assert_eq!(
        ipvsadm(&running, &["-Ln", "-t", "192.0.2.1:80"]).out,
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.1:80 rr
  -> 10.0.0.1:80                  Masq    0      0          0         \n  -> 10.0.0.2:80                  Route   7      0          0         \n"
    );
    assert_eq!(
        ipvsadm(&running, &["-L", "--timeout"]).out,
        "Timeout (tcp tcpfin udp): 1000 120 30\n"
    );
    done(&running, "-d -t 192.0.2.1:80 -r 10.0.0.1");
    done(&running, "-D -t 192.0.2.1:80");
    assert_eq!(ipvsadm(&running, &["-Sn"]).out, "");
}

#[test]
fn refusals_have_ipvsadms_words_and_status() {
    let running = empty();
    for (line, words) in [
        ("-D -t 192.0.2.1:80", "No such service\n"),
        ("-Z -t 192.0.2.1:80", "No such service\n"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1", "Service not defined\n"),
        (
            "-A -t 192.0.2.1:80 -s nosuch",
            "Scheduler or persistence engine not found\n",
        ),
        ("--stop-daemon master", "No daemon is running\n"),
        (
            "-A -f 7",
            "this director does not balance by firewall mark yet (-f); nothing was changed\n",
        ),
    ] {
        assert_eq!(refused(&running, line), (255, words.to_owned()), "{line}");
    }
}

#[test]
fn a_restore_goes_line_by_line() {
    let running = empty();
    let rules = "\
# what people keep in such files

ipvsadm -A -t 192.0.2.1:80 -s rr   # web
-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m
-a -t 192.0.2.9:80 -r 10.0.0.1:80 -m
-A -t 192.0.2.1:80
-a -t 192.0.2.1:http -r 10.0.0.2:80 -m
-Sn
-A -t 192.0.2.1:80 -w 1
-A -t 192.0.2.2:80
";
    let said = restore(&running, &[], rules);
    let saved = "\
-A -t 192.0.2.1:80 -s rr
-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -m -w 1
";
    assert_eq!(said.out, saved);
    assert_eq!(
        said.err,
        "line 5: Service not defined\nline 6: Service already exists\nline 9: Illegal 'weight' option with the 'add-service' command\n"
    );
    assert_eq!(said.status, 2);
    assert_eq!(ipvsadm(&running, &["-Sn"]).out, saved);
    assert_eq!(restore(&running, &[], "-D -t 192.0.2.1:81\n-C\n").status, 255);
    assert_eq!(ipvsadm(&running, &["-Sn"]).out, "");
    let nested = restore(&running, &[], "-R\n");
    assert_eq!(nested.status, 255);
}

#[test]
fn an_atomic_restore_is_all_or_nothing() {
    let running = empty();
    assert_eq!(restore(&running, &["--atomic"], RULES).status, 0);
    for (rules, status, words) in [
        (
            "-C\n-A -t 192.0.2.7:80\n-A -t 192.0.2.7:80\n",
            255,
            "line 3: Service already exists\nnothing was changed\n",
        ),
        (
            "-C\n-A\n",
            2,
            "line 2: You need to supply the 'service-address' option for the 'add-service' command\nnothing was changed\n",
        ),
        (
            "-C\n-L\n",
            2,
            "line 2: 'list' changes nothing, and cannot be a part of it\nnothing was changed\n",
        ),
    ] {
        let said = restore(&running, &["--atomic"], rules);
        assert_eq!((said.status, said.err.as_str()), (status, words), "{rules}");
        assert_eq!(output(&running, &["ipvsadm", "-Sn"]), RULES);
    }
    // To replace everything at once.
    assert_eq!(
        restore(&running, &["--atomic"], "-C\n-A -t 192.0.2.7:80 -s rr\n").status,
        0
    );
    assert_eq!(output(&running, &["ipvsadm", "-Sn"]), "-A -t 192.0.2.7:80 -s rr\n");
}

/// More than fits one request, and it ends before the last one.
#[test]
fn an_interrupted_atomic_restore_leaves_the_old_rules() {
    use std::os::unix::net::UnixStream;
    use ulvs_control::api::changes::Change;
    use ulvs_control::api::frame;
    use ulvs_control::api::protocol::{PROTOCOL_VERSION, Request, Response};

    let running = empty();
    assert_eq!(restore(&running, &[], RULES).status, 0);
    let mut stream = UnixStream::connect(running.path()).unwrap();
    let mut ask = |request: &Request| -> Response {
        frame::write(&mut stream, request).unwrap();
        frame::read(&mut stream).unwrap()
    };
    let hello = Request::Hello {
        protocol_version: PROTOCOL_VERSION,
        program: "test".into(),
    };
    assert!(matches!(ask(&hello), Response::Hello { .. }));
    let part = Request::Change {
        changes: vec![Change::Flush],
        atomic: true,
        more: true,
    };
    for sent in 1..4 {
        assert_eq!(ask(&part), Response::Noted { changes: sent });
    }
    drop(stream);
    assert_eq!(output(&running, &["ipvsadm", "-Sn"]), RULES);

    // All of it, in several requests.
    let mut rules = String::from("-C\n");
    for number in 0..3000 {
        rules += &format!("-A -t 198.18.{}.{}:80 -s rr\n", number / 250, 1 + number % 250);
    }
    assert_eq!(restore(&running, &["--atomic"], &rules).status, 0);
    assert_eq!(ipvsadm(&running, &["-Sn"]).out.lines().count(), 3000);
}

#[test]
fn local_addresses_are_listed_as_in_dpvs() {
    let running = empty();
    assert_eq!(restore(&running, &[], RULES).status, 0);
    assert_eq!(
        output(&running, &["ipvsadm", "-G", "-n", "-t", "192.0.2.1:443"]),
        "\
VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS     \n\
192.0.2.1:443        1                                                  \n\
\x20                             10.0.9.1             -          -         \n"
    );
    assert!(
        refused(&running, "-Q -t 192.0.2.1:443 -z 10.0.9.1")
            .1
            .contains("delete the server first")
    );
    done(&running, "-P -t 192.0.2.1:443 -z 10.0.9.2");
    done(&running, "-Q -t 192.0.2.1:443 -z 10.0.9.1");
    assert!(
        ipvsadm(&running, &["-Sn"])
            .out
            .contains("-P -t 192.0.2.1:443 -z 10.0.9.2\n")
    );
}

#[test]
fn the_running_configuration_is_saved_as_a_file_that_the_director_reads() {
    let running = Running::start_with(config(
        "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1:80\"\nmethod = \"nat\"\n\
         [[service.server]]\naddress = \"10.0.0.1:80\"\n",
    ));
    done(&running, "-e -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 9");
    done(&running, "-A -u 192.0.2.1:53");
    let text = output(&running, &["services"]);
    assert!(
        text.contains("file, edited") && text.contains("udp 192.0.2.1:53, wlc, from command line"),
        "{text}"
    );

    let file = running.directory.path().join("saved.toml");
    output(&running, &["save", file.to_str().unwrap()]);
    let saved = std::fs::read_to_string(&file).unwrap();
    assert_eq!(output(&running, &["save"]), saved);
    let read = config::parse(&saved, "saved").unwrap();
    assert_eq!((read.services.len(), read.services[0].servers[0].weight), (2, 9));
    let nowhere = run(&running, &["save", "/nowhere/at/all.toml"]);
    assert_eq!(nowhere.status, 1);
    assert!(nowhere.err.contains("cannot write /nowhere/at/all.toml"), "{nowhere:?}");
}

#[test]
fn the_kernels_files_are_there() {
    let running = empty();
    assert_eq!(
        restore(
            &running,
            &[],
            "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n"
        )
        .status,
        0
    );
    assert_eq!(
        output(&running, &["proc", "ip_vs"]),
        "\
IP Virtual Server version 1.2.1 (size=65536)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:0050 rr  \n  -> 0A000001:0050      Masq    1      0          0         \n"
    );
    for file in [
        "ip_vs_conn",
        "ip_vs_conn_sync",
        "ip_vs_stats",
        "ip_vs_stats_percpu",
        "ip_vs_app",
    ] {
        assert!(!output(&running, &["proc", file]).is_empty(), "{file}");
    }
    assert_eq!(run(&running, &["proc", "ip_vs_nothing"]).status, 2);
}
