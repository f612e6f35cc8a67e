//! Who may talk to the director. These need root, to become somebody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::director::Running;
use crate::{Said, command, said};

/// Neither root nor in any group: what `nobody` is on most systems.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        println!("skipped: only root can become another user");
    }
    root
}

/// A director that everybody can find, and a copy of the program that everybody can run.
fn open_to_all(running: &Running) -> PathBuf {
    let program = running.directory.path().join("ulvs");
    // By another process: a file that this one writes cannot be run while a child of another test still holds it open.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_ulvs"))
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    fs::set_permissions(running.directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    program
}

fn status_as(program: &Path, running: &Running, group: u32) -> Said {
    let mut ulvs: Command = command(program, &running.path());
    said(ulvs.arg("status").uid(NOBODY).gid(group).output().unwrap())
}

/// The first group of this system that is neither root's nor nobody's.
fn some_group() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let mut groups = groups.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        Some((fields.first()?.to_string(), fields.get(2)?.parse().ok()?))
    });
    groups.find(|(_, id)| *id != 0 && *id != NOBODY).unwrap()
}

#[test]
fn members_of_the_group_may_and_others_are_told_which() {
    if !is_root() {
        return;
    }
    let (name, id) = some_group();
    let running = Running::start_for_group(Some(name.clone()));
    let program = open_to_all(&running);
    let member = status_as(&program, &running, id);
    assert_eq!((member.status, member.err.as_str()), (0, ""));
    let stranger = status_as(&program, &running, NOBODY);
    assert_eq!(stranger.status, 3);
    assert!(
        stranger.err.contains(&format!("members of the group '{name}'")),
        "{stranger:?}"
    );
}

#[test]
fn a_socket_that_was_opened_to_all_still_asks_who_comes() {
    if !is_root() {
        return;
    }
    let (name, id) = some_group();
    let running = Running::start_for_group(Some(name));
    let program = open_to_all(&running);
    fs::set_permissions(running.path(), Permissions::from_mode(0o666)).unwrap();
    let stranger = status_as(&program, &running, NOBODY);
    assert_eq!(stranger.status, 1);
    assert!(stranger.err.contains("only root and members"), "{stranger:?}");
    assert_eq!(status_as(&program, &running, id).status, 0);
}
