//! A whole BGP session: connections, octets and time in any order.
//!
//! What has to hold is said in the crate's module `fuzzing`.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_vip::testing::fuzzing::bgp_session(data, Instant::now()));
