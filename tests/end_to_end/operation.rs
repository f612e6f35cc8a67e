//! How the director is started, checked and ended.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Case;
use crate::client;
use crate::config::{Config, Family::V4, Method::Nat};
use crate::director::Director;
use crate::lab::{self, Lab};
use crate::traffic;

const CASE: Case = Case {
    method: Nat,
    client: V4,
    servers: V4,
    arms: 2,
    workers: 1,
};

/// [`Director::stop`] compares interfaces, XDP programs, addresses and routes with those before the start.
#[test]
fn sigterm_leaves_nothing_behind() {
    let Some(lab) = Lab::up("sigterm", lab::USUAL) else {
        return;
    };
    let director = Director::start(&lab, traffic::services(&CASE));
    let links = lab.run("director", &["ip", "-details", "link"]);
    assert!(
        links.contains("xdp"),
        "without an XDP program while it runs, this test would see nothing: {links}"
    );
    client::get(&lab, traffic::vip(&CASE), 80, "/");
    director.stop();
}

#[test]
fn starts_again_after_kill_9() {
    let Some(lab) = Lab::up("kill9", lab::USUAL) else {
        return;
    };
    let director = Director::start(&lab, traffic::services(&CASE));
    client::get(&lab, traffic::vip(&CASE), 80, "/");
    director.kill();
    let links = lab.run("director", &["ip", "-details", "link"]);
    assert!(!links.contains("xdp"), "an XDP program outlived its director: {links}");
    let director = Director::start_again(&lab);
    traffic::ask_everything(&lab, &CASE);
    director.stop();
}

#[test]
fn a_second_director_is_refused_and_the_first_goes_on() {
    let Some(lab) = Lab::up("second", lab::USUAL) else {
        return;
    };
    let director = Director::start(&lab, traffic::services(&CASE));
    let config = lab.directory().join("director.toml").display().to_string();
    let second = lab.try_run("director", &[env!("CARGO_BIN_EXE_ulvsd"), "--config", &config]);
    assert!(
        !second.status.success(),
        "a second director started: {}",
        lab::describe(&second)
    );
    assert_ne!(
        second.status.code(),
        Some(124),
        "the second director hung: {}",
        lab::describe(&second)
    );
    assert_eq!(second.status.code(), Some(1), "{}", lab::describe(&second));
    let errors = String::from_utf8_lossy(&second.stderr);
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.starts_with("ulvsd: another ulvsd (process "), "{errors}");
    client::get(&lab, traffic::vip(&CASE), 80, "/");
    director.stop();
}

/// `ulvsd --check` looks at a file only: no root, no interface.
#[test]
fn check_needs_neither_root_nor_interfaces() {
    let directory = Scratch::new("check");
    let control_socket = "/run/ulvs-lab/none/ulvs.sock".to_string();
    let config = Config {
        shape: lab::USUAL,
        workers: 1,
        control_socket,
        services: traffic::services(&CASE),
    };
    let good = directory.file("good.toml", &config.to_toml());
    let output = check(&directory, &good);
    assert!(output.status.success(), "{}", lab::describe(&output));

    let bad = directory.file("bad.toml", &config.to_toml().replacen("\"rr\"", "\"rrr\"", 1));
    let output = check(&directory, &bad);
    assert!(!output.status.success(), "a scheduler called rrr was accepted");
    let message = String::from_utf8_lossy(&output.stderr);
    let line = config
        .to_toml()
        .lines()
        .position(|line| line.contains("\"rr\""))
        .expect("there is a scheduler")
        + 1;
    assert!(
        message.contains(&format!("bad.toml:{line}:")),
        "the message does not say where: {message}"
    );
    assert!(message.contains("rrr"), "the message does not say what: {message}");
}

/// Runs `ulvsd --check`, as nobody when the test itself is root.
fn check(directory: &Scratch, config: &Path) -> Output {
    // A copy, because nobody may not be allowed to look into the directory where cargo builds.
    let program = directory.path.join("ulvsd");
    std::fs::copy(env!("CARGO_BIN_EXE_ulvsd"), &program).expect("the program can be copied");
    let (program, config) = (program.display().to_string(), config.display().to_string());
    let root = Command::new("id").arg("-u").output().expect("id can be started").stdout == b"0\n";
    let nobody: &[&str] = if root {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &[]
    };
    lab::output_of(lab::command(&[nobody, &[&program, "--check", &config]].concat()))
}

/// A directory that everybody may read and that is removed with the test.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ulvs-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        Scratch { path }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode can be set");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
