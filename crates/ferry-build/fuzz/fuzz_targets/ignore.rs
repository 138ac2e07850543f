//! `.dockerignore`: the first line is a path, the rest are patterns.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferry_build::robust::ignore(bytes));
