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

/// A director that cannot start ends with one sentence that names the reason.
#[test]
fn a_failed_start_is_explained_in_one_sentence() {
    let Some(lab) = Lab::up("failed_start", lab::USUAL) else {
        return;
    };
    let config = Config::usual(&lab, traffic::services(&CASE));
    let scratch = Scratch::new("failed-start");
    let good = scratch.file("good.toml", &config.to_toml());
    let text = config
        .to_toml()
        .replace("interface = \"inside\"", "interface = \"insdie\"");
    let missing = scratch.file("missing.toml", &text);
    let two = Config { workers: 2, ..config };
    let too_many = scratch.file("two.toml", &two.to_toml());
    let as_root: &[&str] = &[];
    let cases = [
        (as_root, &missing, "there is no network interface insdie here"),
        (as_root, &too_many, "has 1 queue(s) for 2 workers"),
        (AS_NOBODY, &good, "is not permitted: run as root"),
    ];
    let program = scratch.copy(env!("CARGO_BIN_EXE_ulvsd"));
    for (user, file, sentence) in cases {
        let file = file.display().to_string();
        let output = lab.try_run("director", &[user, &[&program, "--config", &file]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", lab::describe(&output));
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("ulvsd: ") && last.contains(sentence), "{errors}");
        assert!(
            !errors.contains('\x1b'),
            "there are colour codes in what is no terminal: {errors}"
        );
        let links = lab.run("director", &["ip", "-details", "link"]);
        assert!(!links.contains("xdp"), "a failed start left its XDP program: {links}");
    }
}

/// Who is neither root nor in the director's group may not ask it anything, and is told so.
#[test]
fn strangers_are_refused_by_the_control_socket() {
    let Some(lab) = Lab::up("strangers", lab::USUAL) else {
        return;
    };
    let director = Director::start(&lab, traffic::services(&CASE));
    let scratch = Scratch::new("strangers");
    let program = scratch.copy(env!("CARGO_BIN_EXE_ulvs"));
    let socket = lab.directory().join("ulvs.sock").display().to_string();
    let ask = |user: &[&str]| {
        lab::output_of(lab::command(
            &[user, &[&program, "--socket", &socket, "services"]].concat(),
        ))
    };
    assert!(ask(&[]).status.success(), "{}", lab::describe(&ask(&[])));
    let refused = ask(AS_NOBODY);
    assert!(!refused.status.success(), "{}", lab::describe(&refused));
    let sentence = String::from_utf8_lossy(&refused.stderr);
    assert!(sentence.contains("members of the group"), "{sentence}");
    assert_eq!(sentence.trim().lines().count(), 1, "{sentence}");
    director.stop();
}

const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// `ulvsd --check` looks at a file only: no root, no interface.
#[test]
fn check_needs_neither_root_nor_interfaces() {
    let directory = Scratch::new("check");
    let control_socket = "/run/ulvs-lab/none/ulvs.sock".to_string();
    let config = Config {
        backend: crate::config::Backend::AfXdp,
        shape: lab::USUAL,
        workers: 1,
        mode: "auto",
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
    let (program, config) = (
        directory.copy(env!("CARGO_BIN_EXE_ulvsd")),
        config.display().to_string(),
    );
    let root = Command::new("id").arg("-u").output().expect("id can be started").stdout == b"0\n";
    let nobody = if root { AS_NOBODY } else { &[] };
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

    /// A copy of a program, because nobody may not be allowed to look into the directory where cargo builds. Made by another
    /// process: a descriptor that is open for writing, inherited by what another test starts just then, makes a program "busy".
    fn copy(&self, program: &str) -> String {
        let copied = Command::new("cp").arg(program).arg(&self.path).status();
        assert!(copied.expect("cp can be started").success());
        let name = Path::new(program).file_name().expect("a program has a name");
        self.path.join(name).display().to_string()
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
