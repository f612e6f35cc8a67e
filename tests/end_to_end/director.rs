//! A running `ulvsd` in a lab.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

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
        let control_socket = lab.directory().join("ulvs.sock").display().to_string();
        let config = Config {
            shape: lab.shape,
            workers: lab.shape.queues,
            control_socket,
            services,
        };
        std::fs::write(config_file(lab), config.to_toml()).expect("the configuration can be written");
        Director::start_again(lab)
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

    /// Ends the director as an operator does, and checks that it leaves the interfaces as it found them.
    pub fn stop(mut self) {
        let running = self.process.try_wait().expect("a child can be asked");
        assert!(running.is_none(), "the director ended by itself: {running:?}");
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

/// Links with their XDP programs, addresses and routes in the director's namespace.
fn interfaces(lab: &Lab) -> String {
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
