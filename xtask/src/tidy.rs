//! The rules of the house that neither rustc nor clippy checks: which crate may use which, where `unsafe` may
//! stand, licences of dependencies, and words that do not belong into the tree. Reads files; changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;

/// Which crates of the workspace a crate may depend on. An arrow never points upward.
const LAYERS: &[(&str, &[&str])] = &[
    ("ferry-sys", &[]),
    ("ferry-oci", &[]),
    ("ferry-api", &[]),
    ("ferry-runtime", &["ferry-oci", "ferry-sys"]),
    ("ferry-oci-cli", &["ferry-oci", "ferry-runtime", "ferry-sys"]),
    ("ferry-shim", &["ferry-oci", "ferry-runtime", "ferry-sys"]),
    ("ferry-net", &["ferry-sys"]),
    ("ferry-keeper", &["ferry-net", "ferry-shim", "ferry-sys"]),
    ("ferry-store", &["ferry-oci", "ferry-sys"]),
    ("ferry-remote", &["ferry-oci"]),
    ("ferry-registry", &["ferry-oci", "ferry-remote", "ferry-sys"]),
    ("ferry-build", &["ferry-oci", "ferry-remote", "ferry-store", "ferry-sys"]),
    (
        "ferry-engine",
        &[
            "ferry-api",
            "ferry-build",
            "ferry-keeper",
            "ferry-net",
            "ferry-oci",
            "ferry-remote",
            "ferry-runtime",
            "ferry-shim",
            "ferry-store",
            "ferry-sys",
        ],
    ),
    ("ferry-compose", &["ferry-api"]),
    (
        "ferry",
        &[
            "ferry-api",
            "ferry-build",
            "ferry-compose",
            "ferry-engine",
            "ferry-keeper",
            "ferry-oci-cli",
            "ferry-registry",
            "ferry-runtime",
            "ferry-shim",
            "ferry-sys",
        ],
    ),
    ("ferry-tests", &[]),
    ("xtask", &[]),
];

/// Licences that a dependency may come under (any alternative of an `OR` suffices).
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    // The BSD-like licence of the bzip2 sources.
    "bzip2-1.0.6",
];

/// Runs every rule, prints each breach, and fails where there is one.
pub fn check() -> Result<()> {
    let metadata = cargo_metadata()?;
    let mut breaches = Vec::new();
    layering(&metadata, &mut breaches);
    licences(&metadata, &mut breaches);
    source_rules(&mut breaches)?;
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the house rules", breaches.len());
    }
    println!("tidy: layering, licences and source rules hold");
    Ok(())
}

fn cargo_metadata() -> Result<Value> {
    let text = host::output_of(
        Command::new("cargo")
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(host::workspace()),
    )?;
    serde_json::from_str(&text).context("cargo metadata did not print JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn layering(metadata: &Value, breaches: &mut Vec<String>) {
    for package in packages(metadata).filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            breaches.push(format!("crate {name} has no place in the table of layers"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|d| d["path"].is_string() && d["kind"].is_null()) {
            let used = dependency["name"].as_str().unwrap_or_default();
            if !allowed.contains(&used) {
                breaches.push(format!("{name} may not depend on {used}: dependencies point downward only"));
            }
        }
    }
}

fn licences(metadata: &Value, breaches: &mut Vec<String>) {
    for package in packages(metadata).filter(|package| package["source"].is_string()) {
        let expression = package["license"].as_str().unwrap_or_default();
        if !licence_allowed(expression) {
            breaches.push(format!("{} {} has licence `{expression}`", package["name"], package["version"]));
        }
    }
}

/// Every part joined by AND must have one alternative (OR, or the old `/`) that is allowed.
fn licence_allowed(expression: &str) -> bool {
    !expression.is_empty()
        && expression.split(" AND ").all(|part| {
            let part = part.trim_matches(['(', ')', ' ']);
            part.split(" OR ")
                .flat_map(|one| one.split('/'))
                .any(|one| LICENCES.contains(&one.trim_matches(['(', ')', ' '])))
        })
}

fn source_rules(breaches: &mut Vec<String>) -> Result<()> {
    let workspace = host::workspace();
    for file in rust_files(&workspace.join("tests"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        built_here(&file.strip_prefix(&workspace).unwrap_or(&file).display().to_string(), &text, breaches);
    }
    for file in rust_files(&workspace.join("crates"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let shown = file.strip_prefix(&workspace).unwrap_or(&file).display().to_string();
        built_here(&shown, &text, breaches);
        let in_sys = shown.starts_with("crates/ferry-sys/");
        if !in_sys
            && text.lines().any(|line| {
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
            })
        {
            breaches.push(format!("{shown}: `unsafe` stands outside ferry-sys"));
        }
        if !text.trim_start().starts_with("//!") && !shown.contains("/fuzz/") {
            breaches.push(format!("{shown}: no `//!` head that says what the file owns"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.contains("todo!(") || line.contains("unimplemented!(") || line.contains("#[ignore") {
                breaches.push(format!("{shown}:{}: unfinished work: {}", number + 1, line.trim()));
            }
        }
    }
    Ok(())
}

/// A program in the cache may have been built from another clone, whose folder is gone.
fn built_here(shown: &str, text: &str, breaches: &mut Vec<String>) {
    if text.contains(concat!("env!(\"CARGO_", "MANIFEST_DIR\")")) {
        breaches.push(format!("{shown}: keeps the path of the folder that it was built in; ask at run time"));
    }
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            match path.extension() {
                _ if path.is_dir() && path.file_name().is_some_and(|name| name != "target") => {
                    folders.push(path)
                }
                Some(extension) if extension == "rs" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::licence_allowed;

    #[test]
    fn licence_expressions() {
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 AND ISC", true),
            ("(MIT OR GPL-3.0) AND BSD-3-Clause", true),
            ("GPL-3.0", false),
            ("LGPL-2.1 AND MIT", false),
            ("", false),
        ] {
            assert_eq!(licence_allowed(expression), allowed, "{expression}");
        }
    }
}
