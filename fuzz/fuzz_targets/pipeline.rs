#![no_main]
//! Sequences of frames, pauses and configurations through the whole packet machine.

#[path = "../src/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::pipeline(data));
