//! The tables of parity: every endpoint of the schema has a row, and every test that a row names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::host;

fn read(path: &str) -> String {
    fs::read_to_string(host::workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `METHOD /path` of everything in the schema.
fn endpoints(schema: &str) -> Vec<String> {
    let paths = schema.split_once("\npaths:").expect("the schema has paths").1;
    let (mut found, mut path) = (Vec::new(), "");
    for line in paths.lines() {
        let Some(name) = line.strip_suffix(':') else { continue };
        match name.strip_prefix("    ") {
            Some(method) if ["get", "post", "put", "delete", "head"].contains(&method) => {
                found.push(format!("{} {path}", method.to_uppercase()));
            }
            Some(_) => {}
            None => path = name.strip_prefix("  ").filter(|name| name.starts_with('/')).unwrap_or(path),
        }
    }
    found
}

/// The names in the lists of the black-box suites.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the suites").flatten() {
        if entry.path().is_dir() {
            tests(&entry.path(), found);
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let names = text.split('"').filter(|name| is_name(name));
        found.extend(names.map(str::to_owned));
    }
}

fn is_name(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    text.split_once("::").is_some_and(|(suite, test)| word(suite) && word(test))
}

#[test]
fn every_endpoint_has_a_row() {
    let table = read("docs/parity-api.md");
    let all = endpoints(&read("tests/conformance/engine-api.yaml"));
    assert!(all.len() > 100, "{}", all.len());
    for endpoint in all {
        let row = format!("| `{endpoint}` |");
        assert!(table.lines().any(|line| line.starts_with(&row)), "no row begins with {row}");
    }
}

#[test]
fn every_named_test_is_there() {
    let mut known = BTreeSet::new();
    tests(&host::workspace().join("tests/blackbox"), &mut known);
    for path in ["docs/parity.md", "docs/parity-api.md"] {
        let table = read(path);
        let missing: Vec<&str> = table
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| is_name(name) && !known.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{path} names tests that are not there: {missing:?}");
    }
}
