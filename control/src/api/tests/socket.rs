//! The socket file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use tempfile::TempDir;

use super::fake::Fake;
use super::{in_runtime, start};
use crate::api::client::{Client, ClientError};
use crate::api::server::{Limits, Server};
use crate::api::socket::BindError;

fn bind(path: &Path, group: Option<&str>) -> Result<Server, BindError> {
    in_runtime(Server::bind(path, group))
}

/// Keeps the runtime as long as the server, for those tests that drop it.
fn with_bound(path: &Path, group: Option<&str>, then: impl FnOnce(Server)) {
    in_runtime(async { then(Server::bind(path, group).await.unwrap()) });
}

#[test]
fn made_with_its_directory_and_mode_and_removed_at_the_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("run/ulvs/ulvs.sock");
    with_bound(&path, None, |_server| {
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    });
    assert!(!path.exists());
}

#[test]
fn removed_when_the_server_is_told_to_stop() {
    let mut running = start(Fake::default(), Limits::default());
    let path = running.path();
    drop(running.client());
    running.stop();
    assert!(!path.exists());
    match Client::connect(&path, "test 1") {
        Err(error @ ClientError::Unreachable { .. }) => {
            let sentence = error.to_string();
            assert!(
                sentence.contains("ulvs.sock") && sentence.contains("systemctl start ulvsd"),
                "{sentence}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn given_to_its_group() {
    let own = nix::unistd::getegid();
    let Ok(Some(group)) = nix::unistd::Group::from_gid(own) else {
        return println!("skipped: group {own} has no name");
    };
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ulvs.sock");
    with_bound(&path, Some(&group.name), |_server| {
        assert_eq!(fs::metadata(&path).unwrap().gid(), own.as_raw())
    });
    let missing = bind(&path, Some("no-such-group-here")).unwrap_err().to_string();
    assert!(
        missing.contains("no group 'no-such-group-here'") && missing.contains("groupadd"),
        "{missing}"
    );
    assert!(!path.exists());
}

#[test]
fn a_dead_ones_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ulvs.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    with_bound(&path, None, |_server| {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660)
    });
}

#[test]
fn a_living_ones_is_left_alone_and_named() {
    let running = start(Fake::default(), Limits::default());
    let error = bind(&running.path(), None).unwrap_err();
    assert!(matches!(error, BindError::AlreadyRunning { .. }), "{error}");
    assert!(
        error.to_string().contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    assert_eq!(running.client().director().unwrap().generation, 7);
}

#[test]
fn other_files_are_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ulvs.sock");
    fs::write(&path, "precious").unwrap();
    let error = bind(&path, None).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_successors_is_not_removed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ulvs.sock");
    let mut successor = None;
    with_bound(&path, None, |_server| {
        fs::remove_file(&path).unwrap();
        successor = Some(UnixListener::bind(&path).unwrap());
    });
    assert!(path.exists());
}

#[test]
fn paths_that_do_not_work_are_named() {
    let directory = TempDir::new().unwrap();
    let long = directory.path().join("x".repeat(120));
    assert!(bind(&long, None).unwrap_err().to_string().contains("xxx"));
    let blocked = directory.path().join("file/ulvs.sock");
    fs::write(directory.path().join("file"), "").unwrap();
    let sentence = bind(&blocked, None).unwrap_err().to_string();
    assert!(sentence.contains("file"), "{sentence}");
}
