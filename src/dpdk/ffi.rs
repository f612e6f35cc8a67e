//! DPDK's C interface as `src/dpdk/build.rs` generates it from `shim.h` and the installed headers: what a crate `dpdk-sys` would be. Only this folder uses it.

#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(missing_docs, dead_code, clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(unsafe_op_in_unsafe_fn, unnecessary_transmutes)]

include!(concat!(env!("OUT_DIR"), "/dpdk_ffi.rs"));
