//! Tokens and scopes: nothing panics, and no token that was not signed here is taken.
#![no_main]

use std::sync::LazyLock;

use ferry_registry::access::{Grant, Signer};
use libfuzzer_sys::fuzz_target;

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("ferry-registry-fuzz-{}", std::process::id()));
    Signer::open(&path).expect("a key")
});

fuzz_target!(|text: &str| {
    assert!(SIGNER.verify(text, 0).is_none());
    let _ = Grant::parse(text);
});
