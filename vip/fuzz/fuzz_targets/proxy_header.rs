//! A header of the PROXY protocol at the beginning of a connection.
//!
//! What has to hold is said in the crate's module `fuzzing`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_proxy_protocol::fuzzing::beginning(data));
