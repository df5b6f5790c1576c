//! libFuzzer's way into [`flowd_fuzz::decode_stateful`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| flowd_fuzz::decode_stateful::run(octets));
