//! Dependencies that go in circles.

use crate::diagnostic::{Diagnostic, Report};
use crate::tree::{Mapping, Node};
use std::collections::BTreeSet;

/// Reports the first circle a depth-first walk meets.
pub(super) fn check(services: &Mapping, report: &mut Report) {
    let mut done = BTreeSet::new();
    for name in services.keys() {
        let mut path = Vec::new();
        if let Some(cycle) = visit(services, name, &mut path, &mut done) {
            let origin = services[cycle[0].as_str()].get("depends_on").map(|node| node.key);
            let diagnostic = Diagnostic::error(format!("dependency cycle: {}", cycle.join(" -> ")));
            report.push(match origin {
                Some(origin) => diagnostic.at(origin).width("depends_on".len()),
                None => diagnostic,
            });
            return;
        }
    }
}

fn visit(
    services: &Mapping,
    name: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|known| known == name) {
        let mut cycle = path[start..].to_vec();
        cycle.push(name.to_owned());
        return Some(cycle);
    }
    if done.contains(name) {
        return None;
    }
    path.push(name.to_owned());
    let dependencies = services.get(name).and_then(|s| s.get("depends_on")).and_then(Node::as_mapping);
    for dependency in dependencies.into_iter().flat_map(|mapping| mapping.keys()) {
        if services.contains_key(dependency)
            && let Some(cycle) = visit(services, dependency, path, done)
        {
            return Some(cycle);
        }
    }
    path.pop();
    done.insert(name.to_owned());
    None
}
