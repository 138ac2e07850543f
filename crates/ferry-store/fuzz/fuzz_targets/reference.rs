//! Image names: what parses prints as a name that parses to the same.
#![no_main]

use ferry_oci::{Digest, Platform, Reference};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse_name(text) {
        assert_eq!(Reference::parse_name(&reference.to_string()).as_ref(), Ok(&reference));
        assert_eq!(Reference::parse_name(&reference.familiar()).as_ref(), Ok(&reference));
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(Platform::parse(&platform.to_string()), Ok(platform));
    }
});
