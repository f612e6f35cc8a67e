//! The command line end to end: the real `ulvs` against a director's API on a socket in a temporary directory.

mod changes;
mod director;
mod doctor;
mod ipvsadm;
mod permission;
mod show;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use director::Running;

/// `ulvs` with nothing of this machine's in its environment.
fn ulvs(socket: &Path) -> Command {
    command(env!("CARGO_BIN_EXE_ulvs").as_ref(), socket)
}

fn command(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("ULVS_SOCKET", socket);
    command
}

/// What a program said, and its exit status.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

fn said(output: Output) -> Said {
    Said {
        status: output.status.code().expect("it exits by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(running: &Running, arguments: &[&str]) -> Said {
    said(ulvs(&running.path()).args(arguments).output().unwrap())
}

/// The output of a command that does what it should.
fn output(running: &Running, arguments: &[&str]) -> String {
    let Said { status, out, err } = run(running, arguments);
    assert_eq!((status, err.as_str()), (0, ""), "{arguments:?}");
    out
}

fn nowhere() -> PathBuf {
    std::env::temp_dir().join("ulvs-no-director-here/ulvs.sock")
}
