//! The bodies of the fuzz targets, as ordinary tests: with inputs that once failed or that reach far (`regressions/<target>-<what>`), and with random ones, so that there is
//! always a short fuzz run.
//!
//! `ULVS_FUZZ_SECONDS=n` makes the random run of each target that long, `ULVS_FUZZ_TARGET=name` runs one only, `ULVS_SEED=n` chooses another sequence.

#[path = "../../fuzz/src/bodies.rs"]
mod bodies;
#[path = "simulate/random.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod random;

use std::time::{Duration, Instant};

use random::Random;

/// A fuzz target's body.
type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 2] = [("parse", bodies::parse), ("pipeline", bodies::pipeline)];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number"))
    })
}

#[test]
fn kept_inputs_pass() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.expect("a readable directory").path())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{directory} is empty");
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = TARGETS
            .iter()
            .find(|(target, _)| name.split('-').next() == Some(target));
        let (_, body) = target.unwrap_or_else(|| panic!("{name} names no fuzz target"));
        println!("{name}");
        body(&std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}")));
    }
}

/// Runs random inputs until `enough`; an input that fails is written where it can be kept.
fn run(target: &str, body: Body, mut enough: impl FnMut(u64) -> bool) {
    let mut random = Random::new(number("ULVS_SEED", 1));
    let mut runs = 0;
    while !enough(runs) {
        let length = *random.pick(&[20, 80, 300, 1000]);
        let input: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let result = std::panic::catch_unwind(|| body(&input));
        if let Err(panic) = result {
            let path = std::env::temp_dir().join(format!("{target}-found"));
            std::fs::write(&path, &input).expect("a writable directory for the input");
            eprintln!(
                "the input is in {}; keep it in dataplane/tests/regressions",
                path.display()
            );
            std::panic::resume_unwind(panic);
        }
        runs += 1;
    }
    println!("{target}: {runs} inputs");
}

#[test]
fn random_inputs_pass() {
    let seconds = number("ULVS_FUZZ_SECONDS", 0);
    let wanted = std::env::var("ULVS_FUZZ_TARGET").ok();
    for (target, body) in TARGETS {
        if wanted.as_deref().is_some_and(|wanted| wanted != target) {
            continue;
        }
        let start = Instant::now();
        run(target, body, |runs| match seconds {
            0 => runs >= 2000,
            _ => start.elapsed() >= Duration::from_secs(seconds),
        });
    }
}

/// Not a test: what `hack/fuzz` lets the guided fuzzer begin with.
#[test]
#[ignore = "writes files; hack/fuzz calls it"]
fn a_corpus_is_written() {
    let directory = std::path::PathBuf::from(std::env::var_os("ULVS_CORPUS").expect("ULVS_CORPUS names a directory"));
    let mut random = Random::new(number("ULVS_SEED", 1));
    for (target, _) in TARGETS {
        let own = directory.join(target);
        std::fs::create_dir_all(&own).expect("a writable directory");
        for number in 0..40 {
            let length = [16, 60, 200, 800][number % 4];
            let input: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            std::fs::write(own.join(format!("seed-{number}")), input).expect("a writable directory");
        }
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");
        for entry in std::fs::read_dir(kept).expect("the kept inputs") {
            let path = entry.expect("a readable directory").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.split('-').next() == Some(target) {
                std::fs::copy(&path, own.join(name)).expect("a writable directory");
            }
        }
    }
}
