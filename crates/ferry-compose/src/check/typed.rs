//! That the canonical tree fits the typed model: texts where the schema allows them, but a number is meant.

use crate::diagnostic::{Diagnostic, Report};
use crate::model::{Config, Network, Service, Volume};
use crate::tree::Node;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

/// Reports every attribute the model cannot hold.
pub(super) fn check(root: &Node, report: &mut Report) {
    section::<Service>(root, "services", report);
    section::<Network>(root, "networks", report);
    section::<Volume>(root, "volumes", report);
    section::<Config>(root, "secrets", report);
    section::<Config>(root, "configs", report);
}

fn section<T: DeserializeOwned>(root: &Node, name: &str, report: &mut Report) {
    for (key, node) in root.get(name).and_then(Node::as_mapping).into_iter().flatten() {
        if key.starts_with("x-") || serde_json::from_value::<T>(node.to_json()).is_ok() {
            continue;
        }
        // One attribute after the other, to point at the one that does not fit.
        for (attribute, value) in node.as_mapping().into_iter().flatten() {
            let alone = Json::Object(Map::from_iter([(attribute.clone(), value.to_json())]));
            if let Err(error) = serde_json::from_value::<T>(alone) {
                let width = value.scalar_text().map_or(1, |text| text.chars().count());
                let message = format!("{name}.{key}.{attribute}: {error}");
                report.push(Diagnostic::error(message).at(value.origin).width(width));
            }
        }
    }
}
