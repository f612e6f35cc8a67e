//! A running `ulvsd` in a lab.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use aya::maps::loaded_maps;
use aya::programs::loaded_programs;

use crate::config::{Config, Service};
use crate::lab::{self, Lab};

/// Detects a director that hangs; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// `ulvsd` while it runs. A test that fails with one prints its log, counters and connections.
pub struct Director<'a> {
    lab: &'a Lab,
    process: Child,
    before: String,
}

impl<'a> Director<'a> {
    /// Starts `ulvsd` with these services and one worker per queue of the lab, and waits until it forwards.
    pub fn start(lab: &'a Lab, services: Vec<Service>) -> Director<'a> {
        Director::start_with(lab, Config::usual(lab, services))
    }

    /// Starts `ulvsd` with this configuration.
    pub fn start_with(lab: &'a Lab, config: Config) -> Director<'a> {
        Director::start_with_text(lab, &config.to_toml())
    }

    /// Starts `ulvsd` with this text as its configuration file.
    pub fn start_with_text(lab: &'a Lab, text: &str) -> Director<'a> {
        std::fs::write(config_file(lab), text).expect("the configuration can be written");
        Director::start_again(lab)
    }

    /// Waits until the director has logged this.
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code))]
    pub fn wait_for_log(&self, text: &str) {
        self.lab.wait_until(|| self.log().contains(text), text);
    }

    /// Starts `ulvsd` with the configuration file of an earlier start.
    pub fn start_again(lab: &'a Lab) -> Director<'a> {
        let before = interfaces(lab);
        let log = File::create(log_file(lab)).expect("the log can be made");
        let process = Command::new("ip")
            .args([
                "netns",
                "exec",
                &lab.namespace("director"),
                env!("CARGO_BIN_EXE_ulvsd"),
                "--config",
            ])
            .arg(config_file(lab))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("ip can be started");
        let mut director = Director { lab, process, before };
        director.wait_until_ready();
        director
    }

    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while !self.log().contains("ready") {
            let ended = self.process.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "ulvsd ended before it was ready: {ended:?}");
            assert!(start.elapsed() < PATIENCE, "ulvsd did not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that the director printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.lab)).unwrap_or_default()
    }

    /// Where it prints, for when it has ended.
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code))]
    pub fn log_file(&self) -> PathBuf {
        log_file(self.lab)
    }

    /// Has the director read its configuration file again, and returns what it logs about that: one line in the end, and before it what is
    /// wrong with the file.
    pub fn reload(&self) -> String {
        let before = self.log().len();
        signal("-HUP", &self.process);
        let start = Instant::now();
        loop {
            let news = self.log().split_off(before);
            let is_last = |line: &str| line.contains(" reloaded, ") || line.contains(" reload refused: ");
            if news.ends_with('\n') && news.lines().any(is_last) {
                return news;
            }
            assert!(start.elapsed() < PATIENCE, "ulvsd did not reload: {news}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the director with the command line.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let socket = self.lab.directory().join("ulvs.sock").display().to_string();
        let mut command = lab::command(&[env!("CARGO_BIN_EXE_ulvs"), "--socket", &socket]);
        command.args(arguments);
        lab::output_of(command)
    }

    /// One of the counters that `ulvs counters` shows; those it leaves out are 0.
    pub fn counter(&self, name: &str) -> u64 {
        let output = self.ask(&["counters"]);
        assert!(output.status.success(), "{}", lab::describe(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        let mut rows = text.lines().map(str::split_whitespace);
        let row = rows.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
        row.flatten()
            .map_or(0, |total| total.parse().expect("a counter is a number"))
    }

    /// The numbers of the process's XDP programs and BPF maps, from what the kernel says of its file descriptors.
    fn bpf_objects(&self) -> BpfObjects {
        let folder = format!("/proc/{}/fdinfo", self.process.id());
        let entries = std::fs::read_dir(folder).expect("the process runs");
        let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        let mut own = BpfObjects::default();
        for text in texts {
            let number = |key: &str| -> Option<u32> {
                let line = text.lines().find_map(|line| line.strip_prefix(key));
                line.and_then(|rest| rest.trim().parse().ok())
            };
            own.programs.extend(number("prog_id:"));
            own.maps.extend(number("map_id:"));
        }
        own
    }

    /// Ends the director as an operator does, and checks that it leaves the interfaces as it found them.
    pub fn stop(self) {
        let bpf = self.bpf_objects();
        assert!(
            !bpf.programs.is_empty() && !bpf.maps.is_empty(),
            "without an XDP program and maps while it runs, this would see nothing: {bpf:?}"
        );
        self.stop_without_xdp();
    }

    /// The same for one that may have no XDP program.
    pub fn stop_without_xdp(mut self) {
        let running = self.process.try_wait().expect("a child can be asked");
        assert!(running.is_none(), "the director ended by itself: {running:?}");
        let bpf = self.bpf_objects();
        signal("-TERM", &self.process);
        let status = self.wait();
        assert!(status.success(), "after SIGTERM ulvsd ended with {status}");
        let after = interfaces(self.lab);
        assert_eq!(
            self.before, after,
            "the director did not leave the interfaces and routes as it found them"
        );
        let socket = self.lab.directory().join("ulvs.sock");
        assert!(!socket.exists(), "the director left its control socket {socket:?}");
        bpf.wait_until_gone();
        let sockets = self.lab.run("director", &["ss", "--no-header", "--xdp", "--all"]);
        assert!(sockets.is_empty(), "the director left AF_XDP sockets: {sockets}");
    }

    /// Ends the director without giving it a chance to clean up.
    pub fn kill(mut self) {
        signal("-KILL", &self.process);
        self.wait();
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "ulvsd did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("==== log of the director\n{}", self.log());
            for question in ["counters", "connections", "services"] {
                eprintln!("==== ulvs {question}\n{}", lab::describe(&self.ask(&[question])));
            }
        }
        // Already ended after stop() and kill(); in a failed test it must not outlive the lab.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// BPF objects, by the kernel's numbers.
#[derive(Debug, Default)]
struct BpfObjects {
    programs: Vec<u32>,
    maps: Vec<u32>,
}

impl BpfObjects {
    /// The kernel frees them in the background, soon after the last descriptor is closed.
    fn wait_until_gone(&self) {
        let start = Instant::now();
        loop {
            let programs = loaded_programs().filter_map(|program| Some(program.ok()?.id()));
            let programs: Vec<u32> = programs.filter(|id| self.programs.contains(id)).collect();
            let maps = loaded_maps().filter_map(|map| Some(map.ok()?.id()));
            let maps: Vec<u32> = maps.filter(|id| self.maps.contains(id)).collect();
            if programs.is_empty() && maps.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the director left XDP programs {programs:?} and maps {maps:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Links with their XDP programs, addresses and routes in the director's namespace.
fn interfaces(lab: &Lab) -> String {
    let names = lab.run("director", &["ls", "/sys/class/net"]);
    if names.contains(&Lab::cable_of("outside")) {
        return cables_and_twins(lab, &names);
    }
    let questions: [&[&str]; 4] = [
        &["ip", "-details", "link"],
        &["ip", "address"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
    ];
    questions
        .iter()
        .map(|question| lab.run("director", question))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The same after [`Lab::take_ports_from_kernel`]: a twin has a link only while a director runs, and what comes of that takes its time.
fn cables_and_twins(lab: &Lab, names: &str) -> String {
    let mut all = lab.run("director", &["ip", "-oneline", "address", "show", "scope", "global"]);
    for name in names.split_whitespace() {
        all += &format!("{name}: ");
        for fact in ["flags", "mtu", "address"] {
            all += &lab.run("director", &["cat", &format!("/sys/class/net/{name}/{fact}")]);
        }
    }
    for cable in names
        .split_whitespace()
        .filter(|name| name.starts_with(&Lab::cable_of("")))
    {
        let link = lab.run("director", &["ip", "-details", "link", "show", "dev", cable]);
        all += if link.contains("xdp") {
            "with XDP\n"
        } else {
            "without XDP\n"
        };
    }
    all
}

fn signal(name: &str, process: &Child) {
    let status = Command::new("kill")
        .args([name, &process.id().to_string()])
        .status()
        .expect("kill can be started");
    assert!(status.success(), "kill {name} failed");
}

fn config_file(lab: &Lab) -> PathBuf {
    lab.directory().join("director.toml")
}

fn log_file(lab: &Lab) -> PathBuf {
    lab.directory().join("director.log")
}
