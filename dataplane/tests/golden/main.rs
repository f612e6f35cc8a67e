//! Packet goldens: `tests/golden/` at the top of the workspace holds a folder per case, with the director's configuration, frames that come in, and everything
//! that happens then: frames out, connections, every counter. `ULVS_UPDATE=1` writes what happens into the scripts; the review is the diff.
//! `ULVS_CASE=nat` runs only the cases whose name contains it.

mod config;
mod coverage;
mod decode;
mod encode;
mod naive;
mod properties;
mod run;
mod state;
mod words;

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// The folders of all cases, in order of their names.
fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("tests/golden");
    let folders = entries.map(|entry| entry.expect("an entry of tests/golden").path());
    let mut cases: Vec<_> = folders.filter(|path| path.join("case.toml").exists()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_is_as_written() {
    let update = std::env::var_os("ULVS_UPDATE").is_some();
    let mut wrong = 0;
    let only = std::env::var("ULVS_CASE").unwrap_or_default();
    for folder in cases() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let path = folder.join("frames.txt");
        let script = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match run::case(&folder, &script) {
            Err(error) => {
                println!("{name}: {error}");
                wrong += 1;
            }
            Ok((text, faults)) => {
                for fault in &faults {
                    println!("{name}: {fault}");
                }
                wrong += usize::from(!faults.is_empty());
                if faults.is_empty() && update && text != script {
                    std::fs::write(&path, text).expect("frames.txt written");
                } else if faults.is_empty() && !update && text != script {
                    println!(
                        "{name}: not as written (ULVS_UPDATE=1 writes what happens)\n{}",
                        difference(&script, &text)
                    );
                    wrong += 1;
                } else if !faults.is_empty() {
                    println!("{text}");
                }
            }
        }
    }
    assert_eq!(wrong, 0, "cases that went wrong");
}

/// The first lines that differ.
fn difference(written: &str, happened: &str) -> String {
    let (written, happened): (Vec<_>, Vec<_>) = (written.lines().collect(), happened.lines().collect());
    let same = written.iter().zip(&happened).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str], sign: &str| {
        let lines = lines.iter().skip(same).take(6).map(|line| format!("  {sign} {line}\n"));
        lines.collect::<String>()
    };
    format!(
        "  from line {}:\n{}{}",
        same + 1,
        part(&written, "-"),
        part(&happened, "+")
    )
}
