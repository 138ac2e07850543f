//! Manifests: nothing panics, and what is accepted is listed once.
#![no_main]

use ferry_registry::manifest::{OCI_INDEX, OCI_MANIFEST, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for kind in [None, Some(OCI_MANIFEST), Some(OCI_INDEX)] {
        if let Ok(parsed) = parse(kind, bytes) {
            assert!(parsed.blobs.is_sorted());
        }
    }
});
