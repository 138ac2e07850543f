//! Log options of a container: sizes, numbers of files, attributes. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::container::HostConfig;
use ferry_shim::protocol::LogConfig;

use super::settings::SettingsError;

/// Rotation when nothing is said: a forgotten container must not fill the disk.
const DEFAULT_MAX_SIZE: u64 = 10_000_000;
/// Files kept when nothing is said.
const DEFAULT_MAX_FILES: u32 = 3;
/// The same for the driver `local` and for the local copies of what is sent elsewhere, as Docker has them.
const LOCAL_MAX_SIZE: u64 = 20_000_000;
const LOCAL_MAX_FILES: u32 = 5;

/// What the monitor does with output.
pub fn config(
    host_config: &HostConfig,
    path: &Path,
    attrs: &BTreeMap<String, String>,
) -> Result<LogConfig, SettingsError> {
    if host_config.log_config.kind == "none" {
        return Ok(LogConfig::None);
    }
    let options = &host_config.log_config.config;
    let plain = matches!(host_config.log_config.kind.as_str(), "" | "json-file");
    let max_size = match options.get("max-size") {
        None if plain => Some(DEFAULT_MAX_SIZE),
        None => Some(LOCAL_MAX_SIZE),
        Some(text) => max_size(text)?,
    };
    let max_file = match options.get("max-file") {
        None if plain && options.contains_key("max-size") => 1,
        None if plain => DEFAULT_MAX_FILES,
        None => LOCAL_MAX_FILES,
        Some(text) => {
            text.parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(|| bad("max-file", text))?
        }
    };
    let compress = match options.get("compress").map(String::as_str) {
        None => !plain,
        Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(other) => return Err(bad("compress", other)),
    };
    Ok(LogConfig::JsonFile { path: path.to_path_buf(), max_size, max_file, compress, attrs: attrs.clone() })
}

/// The `attrs` of each line: labels and variables chosen by `labels`, `env` and `tag`.
pub fn attributes(
    host_config: &HostConfig,
    labels: &BTreeMap<String, String>,
    environment: &[String],
) -> BTreeMap<String, String> {
    let options = &host_config.log_config.config;
    let names = |option: &str| {
        let text = options.get(option).cloned().unwrap_or_default();
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut attributes = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = labels.get(&name) {
            attributes.insert(name, value.clone());
        }
    }
    for name in names("env") {
        let found = environment.iter().find_map(|entry| entry.strip_prefix(&name)?.strip_prefix('='));
        if let Some(value) = found {
            attributes.insert(name, value.to_owned());
        }
    }
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.insert("tag".into(), tag.clone());
    }
    attributes
}

fn bad(option: &'static str, value: &str) -> SettingsError {
    SettingsError::LogValue { option, value: value.to_owned() }
}

/// Reads `10m`, `512k`, `1g`, `100`; `-1` is no limit.
fn max_size(text: &str) -> Result<Option<u64>, SettingsError> {
    if text == "-1" {
        return Ok(None);
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches('b');
    let (number, factor) = match digits.as_bytes().last() {
        Some(b'k') => (&digits[..digits.len() - 1], 1e3),
        Some(b'm') => (&digits[..digits.len() - 1], 1e6),
        Some(b'g') => (&digits[..digits.len() - 1], 1e9),
        Some(b't') => (&digits[..digits.len() - 1], 1e12),
        _ => (digits, 1.0),
    };
    let parsed = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    parsed.map(|value| Some((value * factor) as u64)).ok_or_else(|| bad("max-size", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[(&str, &str)]) -> HostConfig {
        let mut host_config = HostConfig::default();
        host_config.log_config.kind = "json-file".into();
        host_config.log_config.config =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        host_config
    }

    #[test]
    fn sizes_and_counts() {
        for (options, expected) in [
            (&[][..], (Some(DEFAULT_MAX_SIZE), 3)),
            (&[("max-size", "10k")], (Some(10_000), 1)),
            (&[("max-size", "1.5m"), ("max-file", "4")], (Some(1_500_000), 4)),
            (&[("max-size", "-1")], (None, 1)),
        ] {
            let LogConfig::JsonFile { max_size, max_file, .. } =
                config(&with(options), "/log".as_ref(), &BTreeMap::new()).unwrap()
            else {
                panic!("json-file expected");
            };
            assert_eq!((max_size, max_file), expected);
        }
        for options in [("max-file", "0"), ("max-file", "x"), ("max-size", "0"), ("compress", "maybe")] {
            assert!(config(&with(&[options]), "/log".as_ref(), &BTreeMap::new()).is_err(), "{options:?}");
        }
    }

    #[test]
    fn attributes_are_chosen_by_name() {
        let labels =
            BTreeMap::from([("tier".to_owned(), "web".to_owned()), ("x".to_owned(), "y".to_owned())]);
        let environment = ["A=1".to_owned(), "AB=2".to_owned()];
        let chosen =
            attributes(&with(&[("labels", "tier,none"), ("env", "A"), ("tag", "t")]), &labels, &environment);
        let expected = [("A", "1"), ("tag", "t"), ("tier", "web")];
        assert_eq!(chosen, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }
}
