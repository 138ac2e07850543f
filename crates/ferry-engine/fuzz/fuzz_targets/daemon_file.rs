//! `daemon.json`: any JSON is refused with words, or gives settings that can be used.
#![no_main]

use ferry_engine::daemon_file;
use ferry_engine::defaults::Defaults;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(serde_json::Value::Object(document)) = serde_json::from_slice(bytes) else { return };
    for (key, value) in &document {
        if !daemon_file::is_known(key) {
            daemon_file::nearest(key);
        }
        daemon_file::refusal(key, value);
        assert!(!daemon_file::instead(key).is_empty());
    }
    match Defaults::read(&document) {
        Ok(defaults) => {
            defaults.log_filter();
            defaults.network.pools();
            defaults.container.fill(&mut Default::default(), &mut Default::default());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
