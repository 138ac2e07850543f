//! `docs/parity-compose.md` is complete: a row for every key of the schema, a test for every row, and every test exists.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs tests")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust text below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&read(&path));
        }
    }
    text
}

/// The rows of all tables, as cells.
fn rows() -> Vec<Vec<String>> {
    let page = read(&root().join("docs/parity-compose.md"));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| key"));
    rows.filter(|line| !line.starts_with("| command |")).map(cells).collect()
}

#[test]
fn every_key_has_a_row() {
    let schema: serde_json::Value =
        serde_json::from_str(&read(&root().join("crates/ferry-compose/src/schema.json"))).expect("JSON");
    let rows = rows();
    let has = |key: &str| rows.iter().any(|row| row[0].contains(&format!("`{key}`")));
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let all =
        keys(&schema["definitions"]["service"]["properties"]).into_iter().chain(keys(&schema["properties"]));
    let missing: Vec<String> = all.filter(|key| !has(key)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_named_test_exists() {
    let own = sources(&root().join("crates/ferry-compose/src"));
    let from_outside = sources(&root().join("tests/blackbox"));
    let golden = root().join("crates/ferry-compose/tests/golden");
    let mut wrong = Vec::new();
    for row in rows() {
        let tests = row.last().expect("cells");
        let (named, cases) = tests.split_once("golden:").unwrap_or((tests.as_str(), ""));
        let mut count = 0;
        for case in cases.split_whitespace() {
            count += 1;
            if !golden.join(format!("{case}.txt")).is_file() {
                wrong.push(format!("{}: no golden case {case}", row[0]));
            }
        }
        let words = named.split([',', ' ', '(', ')']).map(str::trim);
        for name in words.filter(|word| word.contains("::") && !word.starts_with('`')) {
            count += 1;
            let last = name.rsplit("::").next().unwrap_or_default();
            let exists = match name.contains("::tests") {
                true => last == "tests" || own.contains(&format!("fn {last}(")),
                false => from_outside.contains(&format!("\"{name}\"")),
            };
            if !exists {
                wrong.push(format!("{}: no test {name}", row[0]));
            }
        }
        if count == 0 && !tests.contains("golden") {
            wrong.push(format!("{}: no test", row[0]));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
