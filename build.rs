//! Builds what is not Rust: the XDP filter of the `af_xdp` backend.

use std::path::PathBuf;
use std::process::Command;
use std::{env, process};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_AF_XDP").is_some() {
        build_xdp_filter();
    }
}

/// Compiles `src/af_xdp/filter.bpf.c` to BPF byte code that the director loads when it starts.
fn build_xdp_filter() {
    const SOURCE: &str = "src/af_xdp/filter.bpf.c";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("filter.bpf.o");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");

    let mut command = Command::new(&clang);
    // -g writes BTF, without which the maps' types are unknown to the loader.
    command.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]);
    // With `-target bpf` clang no longer searches Debian's multiarch directory, where asm/types.h is.
    command.arg(format!("-I/usr/include/{architecture}-linux-gnu"));
    command.args(["-c", SOURCE, "-o"]).arg(&object);

    match command.status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "{clang} could not compile {SOURCE} (its messages are above); if a header is missing: apt-get install linux-libc-dev"
        )),
        Err(error) => fail(&format!(
            "the feature af_xdp needs clang to compile {SOURCE}, and starting {clang} failed ({error}): apt-get install clang, \
             or name another one in the environment variable CLANG"
        )),
    }
}

/// Ends the build with one sentence instead of a panic's backtrace.
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1);
}
