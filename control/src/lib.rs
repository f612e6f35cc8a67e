//! The thinking half of ULVS: sans-IO machines plus one runtime that feeds them.
#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod neighbor;
