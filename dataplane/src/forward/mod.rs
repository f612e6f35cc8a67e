//! What is done to a packet on its way, one file per idea. The order in which it happens is in [`crate::pipeline`].

pub mod client_address;
pub mod edit;
pub mod fragment;
pub mod icmp_error;
pub mod reply;
pub mod sctp;
pub mod tunnel;
