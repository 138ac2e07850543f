//! What a configuration says and this runtime does not know: by the specification it is no error, and nobody should
//! believe that it holds.

use ferry_oci::runtime::Spec;
use serde_json::Value;

/// More than this many are told as a number.
const TOLD_MAX: usize = 20;

/// A warning for each property that has no effect here.
pub(crate) fn warnings(text: &str, spec: &Spec) -> Vec<String> {
    let (Ok(given), Ok(kept)) = (serde_json::from_str(text), serde_json::to_value(spec)) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    compare(&given, &kept, String::new(), &mut paths);
    paths.extend(
        ["windows", "solaris", "vm", "zos"]
            .map(str::to_owned)
            .into_iter()
            .filter(|name| says(&given[name.as_str()])),
    );
    let more = paths.len().saturating_sub(TOLD_MAX);
    let mut told: Vec<String> = paths
        .into_iter()
        .take(TOLD_MAX)
        .map(|path| format!("config.json: {path} is not known to this runtime: it has no effect"))
        .collect();
    if more > 0 {
        told.push(format!("config.json: {more} more properties are not known to this runtime"));
    }
    told
}

/// Paths in `given` that reading it has dropped.
fn compare(given: &Value, kept: &Value, path: String, found: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match kept.get(name) {
                    Some(kept) => compare(value, kept, path, found),
                    None if says(value) => found.push(path),
                    None => {}
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Whether a value asks for anything.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => fields.values().any(says),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        warnings(text, &serde_json::from_str(text).expect("a configuration"))
    }

    #[test]
    fn only_what_is_dropped_is_told() {
        let text = r#"{"ociVersion": "1.2.0", "root": {"path": "r", "tape": true}, "novel": {"a": 1}, "dull": {},
            "mounts": [{"destination": "/a", "options": [], "depth": 3}],
            "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}, "terminal": false, "capabilities": {}},
            "linux": {"resources": {"memory": {"limit": 5, "useHierarchy": true}, "unified": {"a.b": "c"}},
                "namespaces": [{"type": "pid"}], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}}}"#;
        let mut found = told(text);
        found.sort();
        let paths: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(paths, ["mounts[0].depth", "novel", "root.tape"]);
    }
}
