//! libFuzzer's way into [`flowd_fuzz::round_trip`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| flowd_fuzz::round_trip::run(octets));
