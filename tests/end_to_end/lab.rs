//! A lab for one test: `hack/lab/lab` from Rust, removed again when the test ends, however it ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::config::Backend;

/// Detects a command that hangs; nothing is measured with it.
const PATIENCE_S: &str = "120";

/// One test at a time where the tests are threads of one process (`cargo test`); nextest has a test group for that.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How the lab is built.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whose the director's cables are.
    pub backend: Backend,
    /// 1 or 2, as in `lab up --arms`.
    pub arms: u8,
    /// Queues of every port.
    pub queues: u8,
    /// 802.1Q tag on the director's outside port.
    pub vlan: Option<u16>,
    /// MTU of every link, in bytes.
    pub mtu: u16,
}

impl Shape {
    /// Two arms, one queue, no tags, Ethernet's usual MTU.
    pub fn usual(backend: Backend) -> Shape {
        Shape { backend, ..USUAL }
    }

    /// The driver that opens the director's cables, if that is one of DPDK's: the one over AF_XDP for one queue, which is all that it sees of a veth.
    pub fn dpdk_driver(&self) -> Option<&'static str> {
        match self.backend {
            Backend::AfXdp => None,
            Backend::Dpdk if self.queues > 1 => Some("net_tap"),
            Backend::Dpdk => Some("net_af_xdp"),
        }
    }
}

/// What the cable of a port of the director is called where DPDK takes it.
pub fn cable_of(port: &str) -> String {
    format!("wire-{port}")
}

/// [`Shape::usual`] with the ports that the kernel keeps.
pub const USUAL: Shape = Shape {
    backend: Backend::AfXdp,
    arms: 2,
    queues: 1,
    vlan: None,
    mtu: 1500,
};

/// A lab that is up.
pub struct Lab {
    /// Its name, different from that of every other test and test run.
    pub name: String,
    /// How it was built.
    pub shape: Shape,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes the lab of the test `test`; none, after saying why, where that is not possible.
    pub fn up(test: &str, shape: Shape) -> Option<Lab> {
        if let Some(reason) = why_not() {
            // Not by eprintln!, which the test runner hides when the test succeeds.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}-{}", short(test), std::process::id());
        let lab = Lab {
            name,
            shape,
            _turn: turn,
        };
        let mut up = command(&[&script("lab/lab"), "up", &lab.name]);
        up.args(["--arms", &shape.arms.to_string(), "--queues", &shape.queues.to_string()]);
        up.args(["--mtu", &shape.mtu.to_string()]);
        if let Some(driver) = shape.dpdk_driver() {
            up.args(["--dpdk", driver]);
        }
        if let Some(id) = shape.vlan {
            up.args(["--vlan", &id.to_string()]);
        }
        succeed(&mut up);
        Some(lab)
    }

    /// Runs a command in a host of the lab and returns what it printed, or fails the test with all that it printed.
    pub fn run(&self, host: &str, arguments: &[&str]) -> String {
        let output = self.try_run(host, arguments);
        assert!(
            output.status.success(),
            "in {host}: {arguments:?} failed: {}",
            describe(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command that may fail in a host of the lab.
    pub fn try_run(&self, host: &str, arguments: &[&str]) -> Output {
        output_of(self.command(host, arguments))
    }

    /// A command in a host of the lab, with a limit on its time.
    pub fn command(&self, host: &str, arguments: &[&str]) -> Command {
        let namespace = self.namespace(host);
        let mut command = command(&["ip", "netns", "exec", &namespace]);
        command.args(arguments);
        command
    }

    /// The name of a host's network namespace.
    pub fn namespace(&self, host: &str) -> String {
        format!("ulvs-{}-{host}", self.name)
    }

    /// Where the lab keeps logs and sockets, and where the test may put files.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from("/run/ulvs-lab").join(&self.name)
    }

    /// The director's ports, each called like the switch that it leads to.
    pub fn directors_ports(&self) -> &'static [&'static str] {
        if self.shape.arms == 2 {
            &["outside", "inside"]
        } else {
            &["outside"]
        }
    }

    /// What DPDK opens for a port of the director, as `device` in the configuration.
    pub fn dpdk_device(&self, port: &str) -> Option<String> {
        let driver = self.shape.dpdk_driver()?;
        let name = format!("{driver}{}", u8::from(port == "inside"));
        Some(match driver {
            "net_tap" => {
                let mac = self.run("director", &["cat", &format!("/sys/class/net/{port}/address")]);
                format!("{name},iface=card-{port},mac={}", mac.trim())
            }
            _ => format!("{name},iface={}", cable_of(port)),
        })
    }

    /// Sets the MTU of a port of the director.
    pub fn set_directors_mtu(&self, port: &str, mtu: u16) {
        let cable = cable_of(port);
        let is_for_dpdk = self.shape.backend == Backend::Dpdk;
        for link in [port, &cable].iter().take(if is_for_dpdk { 2 } else { 1 }) {
            self.run("director", &["ip", "link", "set", link, "mtu", &mtu.to_string()]);
        }
    }

    /// Waits until something is the case.
    pub fn wait_until(&self, is_so: impl Fn() -> bool, what: &str) {
        let start = std::time::Instant::now();
        while !is_so() {
            let patience = std::time::Duration::from_secs(60);
            assert!(start.elapsed() < patience, "in vain waited for this: {what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Loses 2 % of all frames between the client and the director, in both directions.
    pub fn lose_frames(&self) {
        self.run(
            "outside",
            &[
                "nft",
                "add table bridge loss; add chain bridge loss forward { type filter hook forward priority 0; }
                 add rule bridge loss forward numgen random mod 100 < 2 counter drop",
            ],
        );
    }

    /// Ends [`Lab::lose_frames`].
    pub fn lose_no_frames(&self) {
        self.run("outside", &["nft", "delete", "table", "bridge", "loss"]);
    }

    /// Counts IP packets longer than `mtu` that the director sends to a switch.
    pub fn watch_for_frames_longer_than(&self, mtu: u16, switch: &str) {
        let rules = format!(
            "add table bridge long; add chain bridge long input {{ type filter hook prerouting priority 0; }}
             add rule bridge long input iifname director meta length > {mtu} counter"
        );
        self.run(switch, &["nft", &rules]);
    }

    /// How many frames [`Lab::watch_for_frames_longer_than`] has seen there.
    pub fn long_frames(&self, switch: &str) -> u64 {
        self.counted(switch, "long")
    }

    /// How many frames [`Lab::lose_frames`] has lost.
    pub fn frames_lost(&self) -> u64 {
        self.counted("outside", "loss")
    }

    fn counted(&self, switch: &str, table: &str) -> u64 {
        let rules = self.run(switch, &["nft", "list", "table", "bridge", table]);
        let (_, after) = rules.split_once("counter packets ").expect("the rule has a counter");
        after
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("the counter is a number")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("ULVS_KEEP_LAB").is_some() {
            eprintln!(
                "the lab {} is left up, as ULVS_KEEP_LAB asks; hack/lab/lab down {0} removes it",
                self.name
            );
            return;
        }
        let output = output_of(command(&[&script("lab/lab"), "down", &self.name]));
        if !output.status.success() {
            eprintln!("the lab {} could not be removed: {}", self.name, describe(&output));
        }
    }
}

/// The address called `name` in `hack/lab/addresses`.
pub fn address(name: &str) -> &'static str {
    static TABLE: OnceLock<HashMap<String, String>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let text = std::fs::read_to_string(script("lab/addresses")).expect("the address table can be read");
        let rows = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='));
        rows.map(|(name, address)| (name.to_string(), address.to_string()))
            .collect()
    });
    table
        .get(name)
        .unwrap_or_else(|| panic!("hack/lab/addresses has no {name}"))
}

/// A file under `hack/`.
pub fn script(path: &str) -> String {
    format!("{}/hack/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A command that is ended when it hangs.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", PATIENCE_S])
        .args(arguments)
        .stdin(std::process::Stdio::null());
    command
}

/// Runs a command to its end.
pub fn output_of(mut command: Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} could not be started: {error}"))
}

/// Runs a command that has to succeed.
fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} could not be started: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", describe(&output));
}

/// Exit status and everything printed.
pub fn describe(output: &Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status)
}

/// Why there can be no lab on this machine, if so.
fn why_not() -> Option<&'static str> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(find_reason).as_deref()
}

fn find_reason() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective_user = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .and_then(|line| line.split('\t').nth(2));
    if effective_user != Some("0") {
        return Some("network namespaces need root".to_string());
    }
    let missing = output_of(command(&[&script("setup"), "--check"]));
    if !missing.status.success() {
        return Some(format!(
            "{}; hack/setup installs them",
            String::from_utf8_lossy(&missing.stdout).trim()
        ));
    }
    let namespace = format!("ulvs-try-{}", std::process::id());
    let added = output_of(command(&["ip", "netns", "add", &namespace]));
    if !added.status.success() {
        return Some(format!(
            "network namespaces are refused: {}",
            String::from_utf8_lossy(&added.stderr).trim()
        ));
    }
    let socket = "import socket; socket.socket(44, socket.SOCK_RAW)"; // 44: AF_XDP
    let opened = output_of(command(&["ip", "netns", "exec", &namespace, "python3", "-c", socket]));
    output_of(command(&["ip", "netns", "del", &namespace]));
    let last_line = String::from_utf8_lossy(&opened.stderr)
        .lines()
        .last()
        .unwrap_or_default()
        .to_string();
    (!opened.status.success()).then(|| format!("AF_XDP sockets are refused: {last_line}"))
}

/// A test's name as part of a lab's: lower case letters, digits and dashes, not too long.
fn short(test: &str) -> String {
    test.replace('_', "-").chars().take(30).collect()
}
