//! `WWW-Authenticate`: any text gives challenges with a realm, or none.
#![no_main]

use ferry_remote::challenge::{Challenge, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for challenge in parse(text) {
        if let Challenge::Bearer { realm, .. } = challenge {
            assert!(realm.len() <= text.len());
        }
    }
});
