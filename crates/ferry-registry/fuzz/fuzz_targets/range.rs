//! Ranges: what is given lies within the blob.
#![no_main]

use ferry_registry::routes::range::{Range, parse_chunk, parse_range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &str)| {
    let (size, text) = input;
    if let Range::Part(first, end) = parse_range(text, size) {
        assert!(first < end && end <= size);
    }
    if let Some((first, last)) = parse_chunk(text) {
        assert!(first <= last && last.checked_add(1).is_some());
    }
});
