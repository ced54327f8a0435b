//! A whole group: heartbeats of members, changes on the node and time in any order.
//!
//! What has to hold is said in the crate's module `fuzzing`.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_vip::testing::fuzzing::group(data, Instant::now()));
