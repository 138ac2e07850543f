//! Dockerfiles: parsed, lowered and checked, or refused with a place that lies in the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferry_build::robust::dockerfile(bytes));
