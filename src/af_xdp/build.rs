//! Compiles `src/af_xdp/filter.bpf.c` to BPF byte code that the director loads when it starts.

use std::env;
use std::process::Command;

use super::{fail, out_dir};

pub fn build() {
    const SOURCE: &str = "src/af_xdp/filter.bpf.c";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = out_dir().join("filter.bpf.o");
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
