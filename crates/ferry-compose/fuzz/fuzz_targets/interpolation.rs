//! Templates: substituted or refused; without a dollar sign nothing changes.
#![no_main]

use ferry_compose::interpolate;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut found = Default::default();
    interpolate::variables(text, &mut found);
    let value = |name: &str| name.starts_with('A').then(|| "value".to_owned());
    let substituted = interpolate::substitute(text, &value, &mut |_| {});
    if !text.contains('$') {
        assert_eq!(substituted.ok().as_deref(), Some(text));
    }
});
