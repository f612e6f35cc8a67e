//! Tests of the whole road from text to [`Config`](super::Config).

mod cases;
mod documentation;
mod hostile;
mod model;
mod write;

use std::path::{Path, PathBuf};

/// The workspace's `config` folder.
fn config_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// The files in `config/examples`, sorted.
fn example_files() -> Vec<PathBuf> {
    let listing = std::fs::read_dir(config_folder().join("examples")).expect("config/examples");
    let mut files: Vec<PathBuf> = listing.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// All findings as they are printed, each followed by an empty line.
fn render(findings: &[super::ConfigError]) -> String {
    findings.iter().map(|finding| format!("{finding}\n\n")).collect()
}
