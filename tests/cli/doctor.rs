//! `ulvs doctor` on made-up boxes, and on this one.
//!
//! A box is a folder below `tests/cli/doctor`: `box` holds its files, `expected` the command, what it prints and its exit status.
//! `ULVS_UPDATE=1` writes `expected` anew, to be read before it is believed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Said, nowhere, said, ulvs};

/// Writes the files of a box below `root`.
fn unpack(text: &str, root: &Path) {
    let place = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let mut file: Option<(PathBuf, String)> = None;
    let write = |file: Option<(PathBuf, String)>| {
        if let Some((path, text)) = file {
            fs::write(path, text).unwrap();
        }
    };
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("== ") {
            write(file.replace((place(path), String::new())));
        } else if let Some((_, text)) = &mut file {
            *text += line;
            text.push('\n');
        } else if let Some((path, target)) = line.strip_prefix("-> ").and_then(|link| link.split_once(' ')) {
            symlink(target, place(path)).unwrap();
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
    write(file);
}

/// The command in the first line of `expected`, on the box; what it says follows.
fn transcript(root: &Path, command: &str) -> String {
    let arguments = command.strip_prefix("$ ulvs ").unwrap().split(' ');
    let output = ulvs(Path::new("/run/ulvs/ulvs.sock"))
        .current_dir(root)
        .args(arguments)
        .args(["--root", "."])
        .output();
    let Said { status, out, err } = said(output.unwrap());
    assert_eq!(err, "");
    format!("{command}\n{out}status {status}\n")
}

fn examine(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/doctor")
        .join(name);
    let root = tempfile::tempdir().unwrap();
    unpack(&fs::read_to_string(folder.join("box")).unwrap(), root.path());
    let expected = fs::read_to_string(folder.join("expected")).unwrap();
    let found = transcript(root.path(), expected.lines().next().unwrap());
    if std::env::var_os("ULVS_UPDATE").is_some() {
        fs::write(folder.join("expected"), found).unwrap();
    } else {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_bare_server() {
    examine("bare-server");
}

#[test]
fn a_prepared_server() {
    examine("prepared-server");
}

/// What the packet buffers take is computed: the advice is exact.
#[test]
#[cfg(feature = "dpdk")]
fn a_server_with_too_few_huge_pages_for_its_configuration() {
    examine("dpdk-config");
}

#[test]
fn cards_and_workers_on_different_nodes() {
    examine("two-nodes");
}

#[test]
fn a_virtual_machine() {
    examine("virtual-machine");
}

#[test]
fn an_empty_box_is_no_reason_to_fail() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("answers.json"), "{}").unwrap();
    let output = ulvs(&nowhere()).args(["doctor", "--root"]).arg(root.path()).output();
    let Said { status, out, err } = said(output.unwrap());
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
}

#[test]
fn a_configuration_with_errors_is_wrong_and_the_rest_is_judged_without_it() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("answers.json"), "{}").unwrap();
    fs::write(root.path().join("bad.toml"), "[[port]]\n").unwrap();
    let output = ulvs(&nowhere())
        .current_dir(root.path())
        .args(["doctor", "--root", ".", "--config", "bad.toml"])
        .output();
    let Said { status, out, .. } = said(output.unwrap());
    assert_eq!(status, 1);
    assert!(out.starts_with("WRONG  config      bad.toml has 1 error"), "{out}");
    assert!(
        out.contains("run: ulvsd --check bad.toml") && out.lines().count() > 5,
        "{out}"
    );
}

/// Whatever this machine is like, with root and without.
#[test]
fn this_machine_gets_well_formed_lines() {
    let Said { status, out, err } = said(ulvs(&nowhere()).arg("doctor").output().unwrap());
    assert_eq!(err, "");
    let (lines, last) = out.trim_end().rsplit_once("\n\n").expect("a closing line");
    for line in lines.lines() {
        let is_finding = ["ok     ", "note   ", "WRONG  "]
            .iter()
            .any(|word| line.starts_with(word));
        assert!(is_finding || line.starts_with("                   run: "), "{line:?}");
    }
    assert!(lines.contains("ok     kernel      Linux "), "{lines}");
    assert_eq!(status == 0, last == "Nothing is wrong.", "{last}");

    let Said { status: again, out, .. } = said(ulvs(&nowhere()).args(["doctor", "--json"]).output().unwrap());
    let whole: Value = serde_json::from_str(&out).unwrap();
    let findings = whole["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|finding| finding["status"] == "wrong").count() as u64;
    assert_eq!(whole["wrong"], wrong);
    assert_eq!((again, again == 0), (status, wrong == 0));
    assert!(
        findings
            .iter()
            .all(|finding| finding["sentence"].as_str().is_some_and(|text| !text.is_empty()))
    );
}
