//! Answers of an S3-compatible service: nothing panics, and each element lies within the answer.
#![no_main]

use ferry_registry::bucket::client::{element, elements};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in
        ["Code", "Message", "Contents", "Key", "LastModified", "NextContinuationToken", "Upload", "UploadId"]
    {
        let mut within = 0;
        for inner in elements(text, name) {
            assert!(!inner.contains(&format!("</{name}>")));
            within += inner.len();
            let _ = element(inner, "Key");
        }
        assert!(within <= text.len());
    }
});
