//! DPDK's software RSS as a second opinion on ours, over random tuples. Needs cc and DPDK's headers (Debian: libdpdk-dev); says so and skips without.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::steering::{KEY, TOEPLITZ};

const TUPLES: usize = 20_000;

/// What `pkg-config` says, in words; `None` without DPDK.
fn compiler_flags() -> Option<Vec<String>> {
    let output = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.split_whitespace().map(str::to_owned).collect())
}

fn compile(folder: &Path, flags: &[String]) -> PathBuf {
    let program = folder.join("softrss");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/toeplitz_dpdk.c");
    let status = Command::new("cc")
        .args(flags)
        .args(["-O1", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(
        status.expect("cc is there").success(),
        "toeplitz_dpdk.c does not compile"
    );
    program
}

/// A line for the program: key length in words, then the input as DPDK wants it, words in hexadecimal.
fn line(key: &Key) -> String {
    let mut input = [key.source.wire(), key.destination.wire()].concat();
    input.extend(key.source_port.to_be_bytes());
    input.extend(key.destination_port.to_be_bytes());
    let words = input.chunks_exact(4).map(|word| {
        let word: [u8; 4] = word.try_into().expect("four bytes");
        format!(" {:x}", u32::from_be_bytes(word))
    });
    format!("{}{}\n", input.len() / 4, words.collect::<String>())
}

/// Marsaglia's xorshift64.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn random_tuple(state: &mut u64) -> Key {
    let is_v4 = random(state) & 1 == 0;
    let mut address = || {
        let octets: [u8; 16] = std::array::from_fn(|_| (random(state) >> 32) as u8);
        if is_v4 {
            Address::v4([octets[0], octets[1], octets[2], octets[3]])
        } else {
            Address::v6(octets)
        }
    };
    let (source, destination) = (address(), address());
    let ports = random(state);
    Key {
        source,
        destination,
        source_port: (ports >> 16) as u16,
        destination_port: (ports >> 40) as u16,
        protocol: 6,
    }
}

#[test]
fn dpdk_computes_the_same_hashes() {
    let Some(flags) = compiler_flags() else {
        println!("skipped: pkg-config finds no libdpdk (Debian: apt-get install libdpdk-dev)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), &flags);
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let tuples: Vec<Key> = (0..TUPLES).map(|_| random_tuple(&mut state)).collect();
    let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut child = Command::new(program)
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let lines: String = tuples.iter().map(line).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all is written");
    assert!(output.status.success());
    let theirs = String::from_utf8(output.stdout).expect("text");
    let theirs: Vec<u32> = theirs
        .lines()
        .map(|line| u32::from_str_radix(line, 16).expect("a hash"))
        .collect();
    assert_eq!(theirs.len(), TUPLES);
    for (tuple, theirs) in tuples.iter().zip(theirs) {
        assert_eq!(TOEPLITZ.tuple(tuple), theirs, "{tuple:?}");
    }
}
