//! Checks no schema can make: that what is referred to exists, that settings agree, that nothing goes in circles.
//!
//! Owns these rules; works on the normal form and reports each finding with its place.

mod graph;
mod resources;
mod service;
mod typed;

use crate::diagnostic::Report;
use crate::tree::{Mapping, Node};

/// Checks a whole project. `disabled` are services of inactive profiles.
pub fn check(root: &Node, disabled: &Mapping, report: &mut Report) {
    let empty = Mapping::new();
    let services = root.get("services").and_then(Node::as_mapping).unwrap_or(&empty);
    for (name, node) in services {
        service::check(&service::Context { root, services, disabled, name }, node, report);
    }
    service::check_across(services, report);
    resources::check(root, report);
    graph::check(services, report);
}

/// Checks that a tree without templates fits the typed model.
pub fn check_types(root: &Node, report: &mut Report) {
    typed::check(root, report);
}
