//! The rim of ULVS: NIC adapters and what both binaries share. The only crate with `unsafe` in it.

#[cfg(feature = "af_xdp")]
pub mod af_xdp;
pub mod backend;
pub mod cli;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod huge_pages;
pub mod launch;
pub mod slow_path;
#[cfg(any(feature = "af_xdp", feature = "dpdk"))]
mod waker;
