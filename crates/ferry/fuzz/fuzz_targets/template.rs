//! Templates of `--format` and `inspect -f`: any text is refused with words, or rendered within bounds.
#![no_main]

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../src/template/mod.rs"]
mod template;

use template::{Options, Template, Value};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let data = serde_json::json!({
        "Id": "0123456789ab", "Names": ["/a", "/b"], "Labels": {"a": "b", "c.d": "e"}, "Size": 5, "Ratio": 1.5,
        "On": true, "None": null, "State": {"Status": "running", "Health": null}, "Created": "2020-01-01T00:00:00Z",
    });
    let Ok(template) = Template::parse(text) else { return };
    assert_eq!(template.text(), text);
    template.render_with(&Value::from(&data), Options::default()).ok();
});
