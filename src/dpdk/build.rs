//! Generates `src/dpdk/ffi.rs`: Rust declarations of the part of DPDK that `src/dpdk` uses, and a small C library with a real function for each
//! of DPDK's inline ones.

use std::panic;

use super::{fail, out_dir};

const SHIM: &str = "src/dpdk/shim.h";

/// The oldest release whose names and structures `shim.h` and `src/dpdk` are written for.
const OLDEST: (u32, u32) = (22, 11);

const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_thread_(un)?register",
    "rte_openlog_stream",
    "rte_log_set_global_level",
    "rte_log_cur_msg_loglevel",
    "rte_strerror",
    "rte_dev_probe",
    "rte_eth_dev_(count_avail|get_port_by_name|socket_id|info_get|configure|adjust_nb_rx_tx_desc|start|stop|close|set_mtu|get_mtu)",
    "rte_eth_dev_(get_vlan_offload|set_vlan_offload|rss_reta_update|rss_reta_query|rss_hash_update)",
    "rte_eth_dev_rx_intr_(ctl_q_get_fd|enable|disable)",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_(rx|tx)_burst",
    "rte_eth_tx_prepare",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(enable|disable)",
    "rte_eth_allmulticast_enable",
    "rte_eth_stats_get",
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_(alloc|free|free_bulk)",
    "rte_mempool_(avail_count|free)",
    "rte_softrss",
    "ulvs_.*",
    "fopencookie",
    "setvbuf",
];

/// Makes the bindings and says what to link.
pub fn build() {
    for file in [SHIM, "src/dpdk/ffi.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let flags = find_dpdk();
    let wrappers = out_dir().join("dpdk_inline.c");
    generate(&flags, &wrappers);
    compile(&flags, &wrappers);
}

/// The compiler flags for DPDK's headers. pkg-config also tells cargo what to link.
fn find_dpdk() -> Vec<String> {
    let library = match pkg_config::Config::new().probe("libdpdk") {
        Ok(library) => library,
        Err(pkg_config::Error::Command { .. }) => fail(
            "the feature dpdk finds DPDK with pkg-config, which is not here: apt-get install pkg-config libdpdk-dev libclang-dev, or build \
             without DPDK: --no-default-features --features af_xdp",
        ),
        Err(_) => fail(
            "the feature dpdk needs DPDK's headers and libraries, and pkg-config knows no libdpdk: apt-get install libdpdk-dev libclang-dev, \
             or build without DPDK: --no-default-features --features af_xdp",
        ),
    };
    let mut parts = library.version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST {
        fail(&format!(
            "DPDK {} is too old for the feature dpdk, which needs {}.{} or later: install a newer libdpdk-dev, or build without DPDK: \
             --no-default-features --features af_xdp",
            library.version, OLDEST.0, OLDEST.1
        ));
    }
    // All of them: besides directories they carry `-include rte_config.h` and -march, without which structures have other sizes.
    let flags = std::process::Command::new(std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned()))
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| fail(&format!("pkg-config --cflags libdpdk could not be run: {error}")));
    String::from_utf8_lossy(&flags.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn generate(flags: &[String], wrappers: &std::path::Path) {
    let mut builder = bindgen::Builder::default()
        .header(SHIM)
        .clang_args(flags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(wrappers)
        .wrap_static_fns_suffix("__ulvs")
        .opaque_type("rte_mbuf|rte_mempool")
        .allowlist_var("ULVS_.*")
        .allowlist_type("ulvs_mbuf_layout")
        .allowlist_var("RTE_MAX_LCORE|RTE_MAX_ETHPORTS|RTE_ETH_NAME_MAX_LEN")
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true)
        .derive_default(true);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    // bindgen panics when there is no libclang; its message would be lost in a backtrace.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let generated = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    panic::set_hook(hook);
    match generated {
        Ok(Ok(bindings)) => bindings
            .write_to_file(out_dir().join("dpdk_ffi.rs"))
            .unwrap_or_else(|error| fail(&format!("the bindings to DPDK could not be written: {error}"))),
        Ok(Err(error)) => fail(&format!(
            "the bindings to DPDK could not be made from {SHIM} ({error}); if a header is missing: apt-get install libdpdk-dev libclang-dev"
        )),
        Err(_) => fail(
            "the feature dpdk reads DPDK's headers with libclang, which is not here: apt-get install libclang-dev, or name its folder in the \
             environment variable LIBCLANG_PATH",
        ),
    }
}

fn compile(flags: &[String], wrappers: &std::path::Path) {
    let mut build = cc::Build::new();
    build.file(wrappers).include(".").opt_level(2).warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("ulvs_dpdk_inline") {
        fail(&format!("DPDK's inline functions could not be compiled: {error}"));
    }
}
