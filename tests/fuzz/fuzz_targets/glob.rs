//! See `policy_fuzz::glob`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| policy_fuzz::glob(data));
