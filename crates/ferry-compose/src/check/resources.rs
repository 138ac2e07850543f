//! Checks of networks, volumes, secrets and configs.

use crate::diagnostic::{Diagnostic, Report};
use crate::tree::{Node, Value};

/// Checks all of them.
pub(super) fn check(root: &Node, report: &mut Report) {
    for section in ["networks", "volumes", "secrets", "configs"] {
        let mapping = root.get(section).and_then(Node::as_mapping);
        for (name, node) in mapping.into_iter().flatten() {
            if name.starts_with("x-") {
                continue;
            }
            external(section, name, node, report);
            if matches!(section, "secrets" | "configs") {
                source(section, name, node, report);
            }
        }
    }
}

fn is_external(node: &Node) -> bool {
    matches!(node.get("external").map(|node| &node.value), Some(Value::Bool(true)))
}

/// What is external is not ours to describe.
fn external(section: &str, name: &str, node: &Node, report: &mut Report) {
    if !is_external(node) {
        return;
    }
    for (key, value) in node.as_mapping().into_iter().flatten() {
        if !matches!(key.as_str(), "external" | "name") && !key.starts_with("x-") {
            report.push(
                Diagnostic::error(format!("{section}.{name} is external, so \"{key}\" cannot be set"))
                    .at(value.key)
                    .width(key.chars().count()),
            );
        }
    }
}

/// A secret or config comes from exactly one place.
fn source(section: &str, name: &str, node: &Node, report: &mut Report) {
    let allowed: &[&str] =
        if section == "configs" { &["file", "content", "environment"] } else { &["file", "environment"] };
    let given: Vec<&str> = allowed.iter().copied().filter(|key| node.get(key).is_some()).collect();
    let elsewhere =
        is_external(node) || node.get("driver").is_some() || node.get("template_driver").is_some();
    match given.as_slice() {
        [_] => {}
        [] if elsewhere => {}
        [] => report.push(
            Diagnostic::error(format!(
                "{section}.{name} needs one of {} or external: true",
                allowed.join(", ")
            ))
            .at(node.key)
            .width(name.chars().count()),
        ),
        several => report.push(
            Diagnostic::error(format!(
                "{section}.{name} has {}; only one of them can be its source",
                several.join(" and ")
            ))
            .at(node.key)
            .width(name.chars().count()),
        ),
    }
}
