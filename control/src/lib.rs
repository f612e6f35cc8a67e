//! The thinking half of ULVS: sans-IO machines plus one runtime that feeds them. Read [`runtime`] first.
#![forbid(unsafe_code)]

pub mod api;
pub mod capture;
pub mod change;
pub mod compile;
pub mod config;
pub mod forwarding;
pub mod neighbor;
pub mod origin;
pub mod runtime;
