//! The pure packet machine of ULVS: bytes and `now` in, [`verdict`](crate::verdict) out.
//!
//! Read [`pipeline`] first. Nothing here opens a socket, reads a clock, takes a lock, logs, or allocates while packets flow;
//! all tables are sized when a worker is built. The rim (`ulvs`) owns the NICs and hands frames in through [`io::Io`]; the
//! control half (`ulvs-control`) hands in immutable [`snapshot`](crate::snapshot)s.
#![deny(unsafe_code)]

pub mod address;
pub mod conn;
pub mod counters;
pub mod forward;
pub mod io;
pub mod kernel;
pub mod parse;
pub mod pipeline;
pub mod prefetch;
pub mod scheduler;
pub mod service;
pub mod snapshot;
pub mod steering;
pub mod time;
pub mod tunables;
pub mod verdict;
pub mod wire;
pub mod worker;
