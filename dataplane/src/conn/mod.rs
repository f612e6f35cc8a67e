//! Connections: what they are, where they are kept, how they live and end.

pub mod connection;
pub mod fragments;
pub mod index;
pub mod key;
pub mod sctp_state;
pub mod state;
pub mod table;
pub mod tcp_state;
pub mod timeouts;
pub mod udp_state;
pub mod wheel;
