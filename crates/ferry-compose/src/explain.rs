//! `config --explain KEY`: where a value came from, file by file, and which variables are in it.

use crate::interpolate::{Variable, variables};
use crate::project::Project;
use crate::source::Sources;
use crate::tree::{Node, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Explains a dotted path (`services.web.environment.MODE`) or a variable's name.
pub fn explain(project: &Project, sources: &Sources, key: &str) -> Option<String> {
    let path = split(key);
    match find(&project.tree, &path) {
        Some(node) => Some(explain_value(project, sources, key, &path, node)),
        None => explain_variable(project, key),
    }
}

fn explain_value(project: &Project, sources: &Sources, key: &str, path: &[String], node: &Node) -> String {
    let mut out = format!("{key} = {}\n", show(node));
    if node.origin.is_default() {
        out.push_str("  derived: no file sets it\n");
    }
    let layers: Vec<(&Node, &std::path::Path)> = project
        .layers
        .iter()
        .filter_map(|layer| Some((find(&layer.tree, path)?, layer.path.as_path())))
        .collect();
    for (found, _) in &layers {
        let wins = found.origin == node.origin;
        let word = if wins { "  from" } else { "  overridden:" };
        let _ = writeln!(out, "{word} {}  {}", sources.describe(found.origin), show(found));
        if wins {
            explain_line(&mut out, project, sources, found);
        }
    }
    if layers.is_empty() && !node.origin.is_default() {
        let _ = writeln!(out, "  from {}", sources.describe(node.origin));
        explain_line(&mut out, project, sources, node);
    }
    out
}

/// The variables the source line mentions.
fn explain_line(out: &mut String, project: &Project, sources: &Sources, node: &Node) {
    let Some(line) = sources.line(node.origin) else { return };
    let mut mentioned = BTreeSet::new();
    variables(line, &mut mentioned);
    for Variable { name, default, .. } in mentioned {
        let _ = match (project.environment.entry(&name), default) {
            (Some(entry), _) => writeln!(out, "    {name} = \"{}\" from {}", entry.value, entry.source),
            (None, Some(default)) => writeln!(out, "    {name} is not set; the default is \"{default}\""),
            (None, None) => writeln!(out, "    {name} is not set"),
        };
    }
}

fn explain_variable(project: &Project, name: &str) -> Option<String> {
    let entry = project.environment.entry(name)?;
    Some(format!("{name} = {}\n  from {}\n", entry.value, entry.source))
}

/// Splits at dots, and at brackets around an index.
fn split(key: &str) -> Vec<String> {
    key.split('.')
        .flat_map(|part| {
            let (name, rest) = part.split_once('[').unwrap_or((part, ""));
            let index = rest.trim_end_matches(']');
            [name, index].into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// The node at a path. A key may hold dots itself: the longest one that fits is taken.
fn find<'a>(node: &'a Node, path: &[String]) -> Option<&'a Node> {
    if path.is_empty() {
        return Some(node);
    }
    match &node.value {
        Value::Mapping(mapping) => (1..=path.len()).rev().find_map(|length| {
            let child = mapping.get(&path[..length].join("."))?;
            find(child, &path[length..])
        }),
        Value::Sequence(items) => find(items.get(path[0].parse::<usize>().ok()?)?, &path[1..]),
        _ => None,
    }
}

fn show(node: &Node) -> String {
    match node.scalar_text() {
        Some(text) => text,
        None => node.to_json().to_string(),
    }
}
