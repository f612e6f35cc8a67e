//! Connections: their states and how long each state lasts.

pub mod state;
pub mod tcp_state;
pub mod timeouts;
pub mod udp_state;
