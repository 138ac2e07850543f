//! `.dockerignore`: the first line is a path, the rest are patterns.
#![no_main]

use ferry_build::ignore::Ignore;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (path, patterns) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(ignore) = Ignore::parse(patterns) {
        let _ = ignore.is_ignored(path);
    }
});
