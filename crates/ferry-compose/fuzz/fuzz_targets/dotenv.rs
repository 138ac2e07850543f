//! `.env` files, both grammars: assignments or an error with its line; never a panic.
#![no_main]

use ferry_compose::dotenv;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = dotenv::parse(text, &|name| name.starts_with('A').then(|| "value".to_owned()));
    let _ = dotenv::parse_raw(text);
});
