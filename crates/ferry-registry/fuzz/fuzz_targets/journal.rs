//! What lies in a bucket: nothing panics, no entry is numbered beyond the head, and what is read is what is written.
#![no_main]

use ferry_registry::bucket::head::{Head, Segment};
use ferry_registry::transaction::{decode, encode, join, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = Head::parse(bytes) {
        let text = serde_json::to_vec(&head).expect("it was read");
        assert_eq!(Head::parse(&text).as_ref(), Ok(&head));
        for number in [0, head.number / 2, head.number, u64::MAX] {
            let behind = head.tail_behind(number).map_or(0, |entries| entries.len() as u64);
            assert!(behind <= head.number.saturating_sub(number));
        }
        let _ = head.segment_bytes();
    }
    if let Some(parts) = split(bytes) {
        assert_eq!(join(&parts), bytes);
    }
    if let Some(changes) = decode(bytes) {
        assert_eq!(encode(&changes), bytes);
    }
    for last in [0, 1, 7, u64::MAX] {
        let segment = Segment { key: String::new(), last, bytes: 0 };
        for number in [0, 1, u64::MAX] {
            let entries = segment.entries_behind(bytes, number).unwrap_or_default();
            assert!(entries.len() as u64 <= last.saturating_sub(number));
        }
    }
});
