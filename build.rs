//! Builds what is not Rust: the XDP filter of the `af_xdp` backend, and the bindings to DPDK of the `dpdk` backend.

#[cfg(feature = "dpdk")]
#[path = "src/dpdk/build.rs"]
mod dpdk;
#[cfg(feature = "af_xdp")]
#[path = "src/af_xdp/build.rs"]
mod xdp_filter;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "af_xdp")]
    xdp_filter::build();
    #[cfg(feature = "dpdk")]
    dpdk::build();
}

/// Ends the build with one sentence instead of a panic's backtrace.
#[cfg(any(feature = "af_xdp", feature = "dpdk"))]
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1);
}

/// Where cargo wants what is built.
#[cfg(any(feature = "af_xdp", feature = "dpdk"))]
fn out_dir() -> std::path::PathBuf {
    std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into()
}
