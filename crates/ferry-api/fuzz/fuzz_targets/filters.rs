//! The parameter `filters`: what is read is written in today's encoding and read again to the same.
#![no_main]

use std::collections::BTreeMap;

use ferry_api::Filters;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(filters) = Filters::parse(text) else { return };
    let again = Filters::parse(&filters.to_json()).expect("what was written can be read");
    assert_eq!(filters, again);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    filters.match_labels("label", &labels);
    filters.bool_value("dangling", true).ok();
    filters.validate(&["label", "dangling", "status"]).ok();
});
