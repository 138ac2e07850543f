//! Frames from an engine and from a shim: whatever parses, parses again to the same after encoding.
#![no_main]

use ferry_shim::protocol::{decode_message, decode_request, encode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = decode_request(bytes) {
        let once = encode(&request);
        let again = decode_request(&once).expect("what was encoded parses");
        assert_eq!(once, encode(&again));
    }
    if let Ok(Some(message)) = decode_message(bytes) {
        let once = encode(&message);
        let again = decode_message(&once).expect("what was encoded parses").expect("and is known");
        assert_eq!(once, encode(&again));
    }
});
