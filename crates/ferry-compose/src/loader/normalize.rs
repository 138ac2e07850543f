//! The normal form: what a project means beyond what it says.
//!
//! Owns implicit networks, implicit dependencies, default build settings and real names.

use crate::environment::Environment;
use crate::tree::{Mapping, Node, Value};
use std::path::Path;

/// Completes a valid tree.
pub(super) fn normalize(root: &mut Node, name: &str, environment: &Environment, directory: &Path) {
    let Some(mapping) = root.as_mapping_mut() else { return };
    mapping.insert("name".to_owned(), Node::derived(name));
    let mut default_network_used = false;
    for service in values(root, "services") {
        if let Some(build) = service.get_mut("build") {
            normalize_build(build, environment, directory);
        }
        default_network_used |= normalize_service(service);
    }
    if default_network_used {
        section(root, "networks").entry("default".to_owned()).or_insert_with(|| Node::derived(Value::Null));
    }
    for key in ["networks", "volumes", "secrets", "configs"] {
        for (resource_key, resource) in entries(root, key) {
            normalize_resource(resource_key, resource, name);
        }
    }
}

fn values<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    entries(node, key).map(|(_, value)| value)
}

fn entries<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = (&'a String, &'a mut Node)> {
    node.get_mut(key).and_then(Node::as_mapping_mut).into_iter().flat_map(|mapping| mapping.iter_mut())
}

fn section<'a>(root: &'a mut Node, key: &str) -> &'a mut Mapping {
    let Value::Mapping(mapping) = &mut root.value else { unreachable!("the root is a mapping by now") };
    let node = mapping.entry(key.to_owned()).or_insert_with(|| Node::derived(Mapping::new()));
    if node.is_null() {
        node.value = Value::Mapping(Mapping::new());
    }
    match &mut node.value {
        Value::Mapping(mapping) => mapping,
        _ => unreachable!("the schema allows only mappings in {key}"),
    }
}

/// Whether the service joins the default network.
fn normalize_service(service: &mut Node) -> bool {
    if service.is_null() {
        service.value = Value::Mapping(Mapping::new());
    }
    implicit_dependencies(service);
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.as_str() == Some("if_not_present")
    {
        policy.value = "missing".into();
    }
    let is_provider = service.get("provider").is_some();
    let Some(mapping) = service.as_mapping_mut() else { return false };
    let empty = mapping.get("networks").and_then(Node::as_mapping).is_none_or(|networks| networks.is_empty());
    if mapping.contains_key("network_mode") || is_provider {
        if empty {
            mapping.shift_remove("networks");
        }
        return false;
    }
    if empty {
        let default = Mapping::from([("default".to_owned(), Node::derived(Value::Null))]);
        mapping.insert("networks".to_owned(), Node::derived(default));
        return true;
    }
    mapping.get("networks").is_some_and(|networks| networks.get("default").is_some())
}

fn normalize_build(build: &mut Node, environment: &Environment, directory: &Path) {
    let inline = build.get("dockerfile_inline").is_some();
    if let Some(args) = build.get_mut("args").and_then(Node::as_mapping_mut) {
        for (key, value) in args.iter_mut() {
            if let (true, Some(found)) = (value.is_null(), environment.get(key)) {
                value.value = found.into();
            }
        }
        args.retain(|_, value| !value.is_null());
    }
    if let Some(mapping) = build.as_mapping_mut() {
        let own = || Node::derived(directory.to_string_lossy().as_ref());
        mapping.entry("context".to_owned()).or_insert_with(own);
        if !inline {
            mapping.entry("dockerfile".to_owned()).or_insert_with(|| Node::derived("Dockerfile"));
        }
    }
}

/// links, shared namespaces and volumes_from depend on the service they name.
fn implicit_dependencies(service: &mut Node) {
    let mut implied: Vec<(String, bool)> = Vec::new();
    for link in texts(service, "links") {
        implied.push((link.split(':').next().unwrap_or_default().to_owned(), true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(name) = service.get_str(key).and_then(|text| text.strip_prefix("service:")) {
            implied.push((name.to_owned(), true));
        }
    }
    for volume in texts(service, "volumes_from") {
        if !volume.starts_with("container:") {
            implied.push((volume.split(':').next().unwrap_or_default().to_owned(), false));
        }
    }
    if implied.is_empty() {
        return;
    }
    let Some(mapping) = service.as_mapping_mut() else { return };
    let node = mapping.entry("depends_on".to_owned()).or_insert_with(|| Node::derived(Mapping::new()));
    let Some(dependencies) = node.as_mapping_mut() else { return };
    for (name, restart) in implied {
        dependencies.entry(name).or_insert_with(|| {
            Node::derived(Mapping::from([
                ("condition".to_owned(), Node::derived("service_started")),
                ("restart".to_owned(), Node::derived(restart)),
                ("required".to_owned(), Node::derived(true)),
            ]))
        });
    }
}

fn texts(service: &Node, key: &str) -> Vec<String> {
    let items = service.get(key).and_then(Node::as_sequence).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// `{project}_{key}` unless named or external.
fn normalize_resource(key: &str, resource: &mut Node, project: &str) {
    if resource.is_null() {
        resource.value = Value::Mapping(Mapping::new());
    }
    let external = matches!(resource.get("external").map(|node| &node.value), Some(Value::Bool(true)));
    let Some(mapping) = resource.as_mapping_mut() else { return };
    if matches!(mapping.get("external").map(|node| &node.value), Some(Value::Bool(false))) {
        mapping.shift_remove("external");
    }
    if mapping.get("name").is_none_or(|name| name.as_str().is_none_or(str::is_empty)) {
        let name = if external { key.to_owned() } else { format!("{project}_{key}") };
        mapping.insert("name".to_owned(), Node::derived(name));
    }
}
