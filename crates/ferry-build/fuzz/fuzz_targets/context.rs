//! Archives of contexts: nothing is ever written outside of the target folder.
#![no_main]

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ferry_build::fileop::{Owner, TouchedDirectories, UnpackLimits, unpack_tar};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().unwrap();
    let target = outer.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let root = std::fs::File::open(&target).unwrap();
    let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let limits = UnpackLimits { owner: Some(owner), devices: false, ..UnpackLimits::default() };
    let mut touched = TouchedDirectories::default();
    let canceled = AtomicBool::new(false);
    let unpacked = unpack_tar(bytes, root.as_fd(), Path::new("/"), &limits, &mut touched, &canceled);
    drop(unpacked.and_then(|()| touched.restore(root.as_fd())));
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
});
