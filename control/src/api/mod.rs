//! How `ulvs` (and `ipvsadm`) talk to a running `ulvsd`: length-prefixed JSON frames over a Unix socket.
//!
//! [`views`] are the neutral structs that both sides share, [`changes`] what can be changed, [`protocol`] says what is asked and answered, [`frame`] how it stands on the
//! wire, [`server`] is the director's end (it asks a [`Backend`]), [`client`] the command line's.

pub mod backend;
pub mod changes;
pub mod client;
pub mod frame;
mod paging;
mod peer;
pub mod protocol;
pub mod server;
mod session;
mod socket;
pub mod views;

#[cfg(test)]
mod tests;

pub use backend::{Answer, Backend, Refusal};
pub use client::{Client, ClientError};
pub use server::{Limits, Server, serve};
pub use socket::{BindError, refuse_second};

/// Where `ulvsd` listens unless its configuration says otherwise, and where `ulvs` looks unless `--socket` or `ULVS_SOCKET` does.
pub const DEFAULT_SOCKET: &str = "/run/ulvs/ulvs.sock";
