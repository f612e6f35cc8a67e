//! Nothing that a file can hold makes the reader panic.

use std::fs;

use proptest::prelude::*;

use super::{config_folder, example_files};
use crate::config;

fn samples() -> Vec<Vec<u8>> {
    let mut files = example_files();
    files.push(config_folder().join("ulvs.toml"));
    files.iter().map(|file| fs::read(file).expect("a sample")).collect()
}

/// Words that get further into the reader than random bytes.
const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\"",
    "'",
    "\n",
    "#",
    "-",
    "0",
    "99999999999999999999999",
    "0x",
    "1e9",
    "true",
    "1979-05-27",
    "[[port]]",
    "[[service]]",
    "[[service.server]]",
    "[service]",
    "address",
    "name",
    "vlans",
    "é",
    "\u{1b}",
    "\0",
    "[::]",
    "[::ffff:1.2.3.4]:1",
    "255.255.255.255:65536",
    "\"\"\"",
    "inf",
    "[director]",
    "fullnat",
    "{}",
];

fn check(bytes: &[u8]) {
    match config::parse_bytes(bytes, "f.toml") {
        Ok(config) => assert!(!config.ports.is_empty()),
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let shown = error.to_string();
                assert!(!shown.contains('\u{1b}') && !shown.contains('\0'), "{shown:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn random_words(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        check(words.concat().as_bytes());
    }

    #[test]
    fn mutated_samples(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, prop::sample::select(WORDS)), 1..6),
    ) {
        let mut bytes = which.get(&samples()).clone();
        for (place, edit, word) in edits {
            let at = place.index(bytes.len() + 1);
            match edit {
                0 => drop(bytes.splice(at..at, word.bytes())),
                1 => bytes.truncate(at.max(10)),
                2 => drop(bytes.drain(at..(at + 7).min(bytes.len()))),
                _ => bytes.extend_from_within(at..(at + 200).min(bytes.len())),
            }
        }
        check(&bytes);
    }
}

#[test]
fn deep_nesting() {
    check(
        "a = "
            .bytes()
            .chain("[".repeat(100_000).bytes())
            .collect::<Vec<_>>()
            .as_slice(),
    );
    check(
        "a = "
            .bytes()
            .chain("{a=".repeat(100_000).bytes())
            .collect::<Vec<_>>()
            .as_slice(),
    );
    check(format!("{}=1", vec!["a"; 100_000].join(".")).as_bytes());
}
