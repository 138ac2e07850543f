//! Archives of contexts: nothing is ever written outside of the target folder.
#![no_main]

use std::os::fd::AsFd;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().unwrap();
    let target = outer.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let root = std::fs::File::open(&target).unwrap();
    ferry_build::robust::context(bytes, root.as_fd());
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
});
