//! The `filters` query parameter: a JSON map from key to values, in today's and the old encoding.

use std::collections::{BTreeMap, BTreeSet};

use crate::ApiError;

/// Values by key. Values of one key are alternatives (labels: all must hold); keys must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the parameter: `{"k":["v"]}` or the old `{"k":{"v":true}}`; empty means no filter.
    pub fn parse(text: &str) -> Result<Filters, ApiError> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let refuse = || ApiError::bad_request(format!("invalid filter: {text}"));
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| refuse())?;
        let serde_json::Value::Object(map) = value else { return Err(refuse()) };
        let mut filters = Filters::default();
        for (key, values) in map {
            let entry = filters.0.entry(key).or_default();
            match values {
                serde_json::Value::Array(list) => {
                    for item in list {
                        entry.insert(item.as_str().ok_or_else(refuse)?.to_owned());
                    }
                }
                serde_json::Value::Object(set) => {
                    entry.extend(set.into_iter().filter(|(_, on)| *on == true).map(|(value, _)| value));
                }
                serde_json::Value::Null => {}
                _ => return Err(refuse()),
            }
        }
        Ok(filters)
    }

    /// Adds one value.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// The values of a key, in order.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Is this key given?
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Is no key given?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every key with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0.iter().map(|(key, values)| (key.as_str(), values.iter().map(String::as_str)))
    }

    /// Refuses keys that are not among `known`, as Docker does.
    pub fn validate(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(ApiError::bad_request(format!("invalid filter '{key}'"))),
        }
    }

    /// True when `key` is not given or one of its values equals `value`.
    pub fn exact_match(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// The single boolean value of `key` (`1`, `true`, `0`, `false`), or `default` when not given.
    pub fn bool_value(&self, key: &str, default: bool) -> Result<bool, ApiError> {
        let Some(values) = self.0.get(key) else { return Ok(default) };
        let mut values = values.iter().map(String::as_str);
        match (values.next(), values.next()) {
            (None, _) => Ok(default),
            (Some("1" | "true"), None) => Ok(true),
            (Some("0" | "false"), None) => Ok(false),
            _ => {
                let given: Vec<_> = self.get(key).collect();
                Err(ApiError::bad_request(format!("invalid filter '{key}={given:?}'")))
            }
        }
    }

    /// True when every `key=value` or `key` of the filter `key` holds for `labels`.
    pub fn match_labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// The parameter's value in today's encoding.
    pub fn to_json(&self) -> String {
        let lists: BTreeMap<&String, BTreeMap<&String, bool>> =
            self.0.iter().map(|(key, values)| (key, values.iter().map(|v| (v, true)).collect())).collect();
        serde_json::to_string(&lists).expect("maps of strings always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_mean_the_same() {
        let new = Filters::parse(r#"{"label":["a=b","c"],"status":["running"]}"#).unwrap();
        let old =
            Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false},"status":{"running":true}}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_json()).unwrap(), new);
        let labels = BTreeMap::from([("a".into(), "b".into()), ("c".into(), String::new())]);
        assert!(new.match_labels("label", &labels));
        assert!(new.exact_match("status", "running") && !new.exact_match("status", "exited"));
        assert!(new.validate(&["label"]).is_err());
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["[]", "{", r#"{"a":1}"#, r#"{"a":[1]}"#, "nonsense"] {
            assert_eq!(Filters::parse(text).unwrap_err().status, 400, "{text}");
        }
    }
}
