//! A heartbeat behind its seal.
//!
//! What has to hold is said in the crate's module `fuzzing`.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_vip::testing::fuzzing::heartbeat(data, Instant::now()));
