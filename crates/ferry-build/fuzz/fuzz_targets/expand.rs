//! Words with variables, some of which are known.
#![no_main]

use ferry_build::dockerfile::directive::Escape;
use ferry_build::dockerfile::expand::Expander;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let scope = |name: &str| match name {
        "A" => Some("value"),
        "B" => Some(""),
        _ => None,
    };
    for escape in [Escape::Backslash, Escape::Backtick] {
        drop(Expander::new(escape).expand(&text, &scope));
        drop(Expander::for_heredoc(escape).expand(&text, &scope));
    }
});
