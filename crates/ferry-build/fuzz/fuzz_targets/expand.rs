//! Variables in words.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferry_build::robust::expansion(bytes));
