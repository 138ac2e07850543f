//! Profiles: which services take part, and which resources are then used by nobody.

use super::Request;
use crate::environment::Environment;
use crate::tree::{Mapping, Node};
use std::collections::BTreeSet;

/// The active profiles: `--profile`, else COMPOSE_PROFILES.
pub(super) fn active(request: &Request, environment: &Environment) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let list = environment.get("COMPOSE_PROFILES").unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Takes the services of inactive profiles out. Naming a service activates its profiles.
pub(super) fn split(root: &mut Node, profiles: &[String], named: &[String]) -> Mapping {
    let mut disabled = Mapping::new();
    let Some(services) = root.get_mut("services").and_then(Node::as_mapping_mut) else { return disabled };
    let mut active: BTreeSet<String> = profiles.iter().cloned().collect();
    for name in named {
        active.extend(services.get(name).map(of_service).unwrap_or_default());
    }
    for (name, service) in std::mem::take(services) {
        let own = of_service(&service);
        if own.is_empty() || active.contains("*") || own.iter().any(|profile| active.contains(profile)) {
            services.insert(name, service);
        } else {
            disabled.insert(name, service);
        }
    }
    disabled
}

/// The profiles a service belongs to.
pub fn of_service(service: &Node) -> Vec<String> {
    let items = service.get("profiles").and_then(Node::as_sequence).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Removes networks, volumes, secrets, configs and models no active service uses.
pub(super) fn prune_resources(root: &mut Node) {
    let mut used: [BTreeSet<String>; 5] = Default::default();
    for service in root.get("services").and_then(Node::as_mapping).into_iter().flat_map(|m| m.values()) {
        let keys = |key: &str| -> Vec<String> {
            service
                .get(key)
                .and_then(Node::as_mapping)
                .map(|m| m.keys().cloned().collect())
                .unwrap_or_default()
        };
        let sources = |holder: &Node, key: &str| -> Vec<String> {
            let items = holder.get(key).and_then(Node::as_sequence).unwrap_or_default();
            items.iter().filter_map(|item| item.get_str("source").map(str::to_owned)).collect()
        };
        used[0].extend(keys("networks"));
        used[1].extend(sources(service, "volumes"));
        used[2].extend(sources(service, "secrets"));
        if let Some(build) = service.get("build") {
            used[2].extend(sources(build, "secrets"));
        }
        used[3].extend(sources(service, "configs"));
        used[4].extend(keys("models"));
    }
    for (section, used) in ["networks", "volumes", "secrets", "configs", "models"].iter().zip(&used) {
        let Some(mapping) = root.get_mut(section).and_then(Node::as_mapping_mut) else { continue };
        mapping.retain(|key, _| used.contains(key) || key.starts_with("x-"));
        if mapping.is_empty()
            && let Some(root) = root.as_mapping_mut()
        {
            root.shift_remove(*section);
        }
    }
}
