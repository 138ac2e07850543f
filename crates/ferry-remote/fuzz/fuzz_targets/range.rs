//! `Content-Range`: a range that is accepted lies within its size.
#![no_main]

use ferry_remote::repository::content_range;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((start, Some(size))) = content_range(text) {
        assert!(start < size);
    }
});
