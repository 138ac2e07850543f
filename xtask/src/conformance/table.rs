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

/// Endpoints that only refuse, outside of a swarm and without plugins; those of secrets take what their lists take.
const REFUSING: [&str; 7] = ["/swarm", "/nodes", "/services", "/tasks", "/plugins", "/secrets", "/configs"];

/// `METHOD /path` and a parameter of its query or head, or `filters: KEY`, of everything in the schema.
fn parameters(schema: &str) -> Vec<(String, String)> {
    let paths = schema.split_once("\npaths:").expect("the schema has paths").1;
    let (mut found, mut path, mut endpoint) = (Vec::new(), "", String::new());
    let (mut name, mut place) = ("", "");
    for line in paths.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        match (depth, text.strip_suffix(':')) {
            (2, Some(name)) if name.starts_with('/') => path = name,
            (4, Some(method)) => endpoint = format!("{} {path}", method.to_uppercase()),
            _ => {}
        }
        if REFUSING.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        if let Some(rest) = text.strip_prefix("- name: ").filter(|_| depth == 8) {
            (name, place) = (rest.trim_matches('"'), "");
        }
        if let Some(rest) = text.strip_prefix("in: ").filter(|_| depth == 10) {
            place = rest.trim_matches('"');
            if matches!(place, "query" | "header") {
                found.push((endpoint.clone(), name.to_owned()));
            }
        }
        let filter = text.strip_prefix("- `").filter(|_| depth > 10 && name == "filters" && place == "query");
        if let Some(key) = filter.and_then(|rest| rest.split(['`', '=']).next()) {
            found.push((endpoint.clone(), format!("filters: {key}")));
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
fn every_parameter_has_a_row() {
    let table = read("docs/parity-parameters.md");
    let all = parameters(&read("tests/conformance/engine-api.yaml"));
    assert!(all.len() > 150, "{}", all.len());
    let rows: BTreeSet<&str> = table.lines().collect();
    let missing: Vec<String> = all
        .iter()
        .map(|(endpoint, parameter)| format!("| `{endpoint}` | `{parameter}` | "))
        .filter(|start| {
            !rows.iter().any(|row| row.starts_with(start.as_str()) && row.len() > start.len() + 4)
        })
        .collect();
    assert!(missing.is_empty(), "no rows in docs/parity-parameters.md: {missing:#?}");
}

/// What the report says in words is what its lists hold.
#[test]
fn the_report_is_as_made() {
    let report = read("CONFORMANCE.md");
    let suites: Vec<&str> = super::suites::all().iter().map(|suite| suite.name).collect();
    for name in &suites {
        assert!(
            report.contains(&format!("\n## {name}\n")),
            "CONFORMANCE.md lacks {name}: cargo xtask conformance {name}"
        );
    }
    for section in report.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        assert!(suites.contains(&name), "CONFORMANCE.md tells of {name}, which is no suite");
        let count = |head: &str| {
            let list = section.split_once(head).map_or("", |(_, rest)| rest.trim_start());
            list.lines().take_while(|line| line.starts_with("- `")).count()
        };
        let (failed, not_applicable) = (count("\nFailed:\n"), count("\nNot applicable:\n"));
        let told = format!(" passed, {failed} failed, {not_applicable} not applicable**");
        assert!(section.contains(&told), "{name}: the lists have{told}");
    }
}

#[test]
fn every_named_test_is_there() {
    let mut known = BTreeSet::new();
    tests(&host::workspace().join("tests/blackbox"), &mut known);
    for path in ["docs/parity.md", "docs/parity-api.md", "docs/parity-parameters.md", "docs/SECURITY.md"] {
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
