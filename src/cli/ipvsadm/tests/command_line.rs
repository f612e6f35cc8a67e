//! Messages and exit status of ipvsadm 1.31 for command lines that it does not carry out, and what it makes of those that it does.

use proptest::prelude::*;
use ulvs_control::api::protocol::ServiceSelector;
use ulvs_control::api::views::Protocol;

use super::super::arguments::{Arguments, UsageError, parse};
use super::super::options::{Command, Opt};
use super::recording;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn parsed(line: &str) -> Arguments {
    parse("ipvsadm", words(line)).unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

fn refused(line: &str) -> (u8, String) {
    let UsageError { status, message } = parse("ipvsadm", words(line)).expect_err(line);
    (status, message)
}

#[test]
fn recorded_mistakes_get_the_recorded_answers() {
    let Some((words, output, status)) = recording("err_unknown") else {
        return;
    };
    let error = parse("ipvsadm", words).unwrap_err();
    assert_eq!((error.message + "\n", error.status), (output, status));
}

#[test]
fn mistakes_get_ipvsadms_answers() {
    const TRY: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
    for (line, status, message) in [
        ("-n", 255, TRY),
        ("-q", 255, TRY),
        ("-t 192.0.2.1:80", 255, TRY),
        ("--tcp-service=192.0.2.1:80 -L -n", 255, TRY),
        ("--timeout -L", 255, TRY),
        ("--list=3", 255, TRY),
        ("-n=3 -L", 255, TRY),
        ("-Lq", 255, "-Lq: unknown option"),
        ("-L --nume", 255, "--nume: unknown option"),
        ("-Ln -t", 255, "-t: missing argument"),
        ("-Ln --tcp-service", 255, "--tcp-service: missing argument"),
        ("-Ln --stats=3", 255, "--stats=3: option does not take an argument"),
        ("-Ln=3", 255, "-Ln=3: option does not take an argument"),
        ("-L -A", 2, "invalid option `-A'"),
        ("-Ln -Ln", 2, "invalid option `-Ln'"),
        ("-Lnh", 2, "invalid option `-Lnh'"),
        ("-L --set 1 2 3", 2, "invalid option `--set'"),
        ("-Ln extra", 2, "unexpected argument extra"),
        ("x -Ln --stats -w 1", 2, "unexpected argument x"),
        ("-L -", 2, "unexpected argument -"),
        ("-L -- -n", 2, "unexpected argument -n"),
        ("-L --stop-daemon master", 2, "invalid option `master'"),
        ("--start-daemon x", 2, "illegal start-daemon parameter specified"),
        ("--stop-daemon x", 2, "illegal start_daemon specified"),
        ("--set 1 2 x", 2, "invalid timeout value `x' specified"),
        ("--set x", 2, "--set option requires 3 timeout values"),
        ("--set 1 2", 2, "--set option requires 3 timeout values"),
        ("-Ln -nt 192.0.2.1:80", 2, "multiple 'numeric' options specified"),
        (
            "-Lt 192.0.2.1:80 -u 192.0.2.1:53",
            2,
            "multiple 'service-address' options specified",
        ),
        (
            "-a -t 192.0.2.1:1 -r 192.0.2.2 -m -g",
            2,
            "multiple 'forwarding-method' options specified",
        ),
        (
            "-Ln -t 192.0.2.1:99999",
            2,
            "illegal virtual server address[:port] specified",
        ),
        ("-Ln -t :80", 2, "illegal virtual server address[:port] specified"),
        (
            "-Ln -t 192.0.2.1:",
            2,
            "illegal virtual server address[:port] specified",
        ),
        (
            "-Ln -t 192.0.2.1:-1",
            2,
            "illegal virtual server address[:port] specified",
        ),
        (
            "-Ln -t 192.0.2.1:80:80",
            2,
            "illegal virtual server address[:port] specified",
        ),
        (
            "-Ln -t [2001:db8::1]",
            2,
            "illegal virtual server address[:port] specified",
        ),
        ("-Ln -f x", 2, "invalid fwmark value `x' specified"),
        ("-Ln -f 0", 2, "invalid fwmark value `0' specified"),
        ("-Ln -f 0x10", 2, "invalid fwmark value `0x10' specified"),
        ("-Ln -f 5000000000", 2, "invalid fwmark value `5000000000' specified"),
        ("-Ln -6 -f 7", 2, "-6 used before -f\n"),
        ("-L --syncid x", 2, "illegal syncid specified"),
        ("-Ln --stats --stats", 2, "multiple 'stats' options specified"),
        ("-L -s rr", 2, "Illegal 'scheduler' option with the 'list' command"),
        ("-L -m", 2, "Illegal 'forwarding-method' option with the 'list' command"),
        ("-C -n", 2, "Illegal 'numeric' option with the 'flush' command"),
        ("-S --nosort", 2, "Illegal 'nosort' option with the 'save' command"),
        ("-Z -n", 2, "Illegal 'numeric' option with the 'zero' command"),
        (
            "-A",
            2,
            "You need to supply the 'service-address' option for the 'add-service' command",
        ),
        (
            "-d -t 192.0.2.1:1",
            2,
            "You need to supply the 'real-server' option for the 'delete-server' command",
        ),
        (
            "-Ln -c --timeout",
            2,
            "The option 'timeout' conflicts with the 'connection' option in the 'list' command",
        ),
        (
            "-L --daemon --timeout",
            2,
            "The option 'daemon' conflicts with the 'timeout' option in the 'list' command",
        ),
        (
            "-Lnc -t 192.0.2.1:80",
            2,
            "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
        ),
        ("-Ln -t 80", 2, "illegal virtual server address[:port] specified"),
        ("-A -t 192.0.2.1:80 -p 0", 2, "invalid timeout value `0' specified"),
        (
            "-A -t 192.0.2.1:80 -p 2678401",
            2,
            "invalid timeout value `2678401' specified",
        ),
        ("-A -t 192.0.2.1:80 -p -1", 255, "-1: unknown option"),
        (
            "-A -t 192.0.2.1:80 -p -M x",
            2,
            "illegal virtual server persistent mask specified",
        ),
        ("-A -t [2001:db8::1]:80 -p -M 0", 2, "illegal ipv6 netmask specified"),
        ("-A -f 1 -6 -p -M 255.0.0.0", 2, "illegal ipv6 netmask specified"),
        (
            "-A -t 192.0.2.1:80 -s mh -b sh-port",
            2,
            "incompatible scheduler flag `sh-port'",
        ),
        ("-A -t 192.0.2.1:80 -b flag-1,x", 2, "invalid scheduler flag `x'"),
        ("-a -t 192.0.2.1:80 -r 192.0.2.2 -w -1", 2, "illegal weight specified"),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -x 2147483648",
            2,
            "illegal u_threshold specified",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -y x",
            2,
            "illegal l_threshold specified",
        ),
        (
            "-a -t 192.0.2.1:80 -r :80",
            2,
            "illegal real server address[:port] specified",
        ),
        (
            "-a -t 192.0.2.1:80 -r [2001:db8::1]:80 -m",
            2,
            "Different address family is allowed only for tunneling servers",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 --tun-type gre",
            2,
            "Tunnel options conflict with forward method",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-type x",
            2,
            "illegal tunnel type specified",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-type gue",
            2,
            "You need to supply the 'tun-port' option for the 'gue' tunnel type",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-port 5",
            2,
            "Illegal 'tun-port' option with the 'ipip' tunnel type",
        ),
        (
            "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-type gue --tun-port 1 --tun-csum --tun-nocsum",
            2,
            "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gue' tunnel type",
        ),
        ("-Lc --stats", 2, "options conflicts in the list command"),
        (
            "-L --timeout --persistent-conn",
            2,
            "options conflicts in the list command",
        ),
    ] {
        assert_eq!(refused(line), (status, message.to_owned()), "{line}");
    }
}

#[test]
fn short_options_combine_and_plain_listing_needs_no_words() {
    assert_eq!(parsed("").command, Command::List);
    for line in [
        "-Lnc",
        "-ln -c",
        "-L -n -c",
        "--list --numeric --connection",
        "-L -cn --sort",
    ] {
        let arguments = parsed(line);
        assert_eq!(arguments.command, Command::List, "{line}");
        assert_eq!(
            arguments.options.keys().copied().collect::<Vec<_>>(),
            [Opt::Numeric, Opt::Connection],
            "{line}"
        );
    }
    assert_eq!(parsed("-h extra").command, Command::Help);
    assert_eq!(parsed("-v").command, Command::Version);
    assert!(parsed("-Lnc --persistent-conn").has(Opt::PersistentConn));
}

#[test]
fn services_are_named_as_in_ipvsadm() {
    let address = |protocol, address: &str, port| {
        Some(ServiceSelector::Address {
            protocol: Some(protocol),
            address: address.parse().unwrap(),
            port: Some(port),
        })
    };
    for (line, service) in [
        ("-Ln -t 192.0.2.1:80", address(Protocol::Tcp, "192.0.2.1", 80)),
        ("-Ln -t192.0.2.1:80", address(Protocol::Tcp, "192.0.2.1", 80)),
        ("-Ln -t=192.0.2.1:80", address(Protocol::Tcp, "192.0.2.1", 80)),
        ("-Lnt 192.0.2.1:080", address(Protocol::Tcp, "192.0.2.1", 80)),
        (
            "-Ln --udp-service=192.0.2.1:53",
            address(Protocol::Udp, "192.0.2.1", 53),
        ),
        (
            "-Ln --sctp-service [2001:db8::1]:5000",
            address(Protocol::Sctp, "2001:db8::1", 5000),
        ),
        ("-Ln -t 2001:db8::1", address(Protocol::Tcp, "2001:db8::1", 0)),
        ("-Ln -t 192.0.2.1", address(Protocol::Tcp, "192.0.2.1", 0)),
        ("-Ln -f 7", Some(ServiceSelector::Fwmark { mark: 7, ipv6: false })),
        ("-Ln -f 7 -6", Some(ServiceSelector::Fwmark { mark: 7, ipv6: true })),
    ] {
        assert_eq!(parsed(line).service, service, "{line}");
    }
}

/// The rules that the recordings were made with.
#[test]
fn the_recorded_rules_are_understood() {
    let Some(directory) = super::goldens() else { return };
    for line in std::fs::read_to_string(directory.join("setup.rules")).unwrap().lines() {
        assert!(parsed(line).service.is_some(), "{line}");
    }
}

#[test]
fn odd_values_that_ipvsadm_takes_are_taken() {
    for line in [
        "-A -t 192.0.2.1:80 -p -M 24",
        "-A -t 192.0.2.1:80 -p -M 255.0.255.0",
        "-A -t 192.0.2.1:80 -M 1.2.3",
        "-A -t 192.0.2.1:0 -p",
        "-A -t 192.0.2.1:80 -b ,",
        "-A -t 192.0.2.1:80 -b sh-port -s sh",
        "-A -f 1 -o",
        "-a -f 1 -r 192.0.2.2:0",
        "-a -t 192.0.2.1:80 -r [2001:db8::1]:80 -i",
        "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-type gre --tun-csum",
        "--set 1 2 3",
    ] {
        parsed(line);
    }
}

#[test]
fn optional_values_do_not_eat_options() {
    assert_eq!(parsed("-A -t 192.0.2.1:80 -p -s rr").options[&Opt::Persistent], None);
    assert_eq!(
        parsed("-A -t 192.0.2.1:80 -p 600").options[&Opt::Persistent],
        Some("600".to_owned())
    );
    assert_eq!(
        parsed("-a -t 192.0.2.1:80 -r 192.0.2.2 -i").options[&Opt::ForwardingMethod],
        Some("ipip".to_owned())
    );
}

proptest! {
    /// Whatever stands on the command line, the answer is an answer. (Words that could be names of hosts would ask a name server.)
    #[test]
    fn any_words_are_borne(words in proptest::collection::vec("-{0,2}[A-Za-z0-9=:\\[\\].é]{0,6}", 0..6)) {
        prop_assume!(!words.iter().any(|word| word.contains(':') || word.contains("service")));
        prop_assume!(!words.iter().any(|word| word.starts_with('-') && word.contains(['t', 'u'])));
        if let Err(error) = parse("ipvsadm", words) {
            prop_assert!(!error.message.is_empty());
        }
    }
}
