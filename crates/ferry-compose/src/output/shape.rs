//! A project in the shape in which Docker Compose writes it: permissions in octal, processors and counts as numbers,
//! nothing where something is empty or false; in JSON some that is empty all the same.

use crate::tree::{Mapping, Node, Value};

/// Lists and maps of a service that are not shown when they are empty, and switches when they are off.
const OMITTED: [&str; 6] = ["extra_hosts", "labels", "privileged", "read_only", "stdin_open", "tty"];

/// Rewrites a service.
pub(super) fn service(service: &mut Mapping) {
    service.retain(|key, node| !OMITTED.contains(&key.as_str()) || !is_empty(node));
    if let Some(Value::Mapping(others)) = service.get_mut("depends_on").map(|node| &mut node.value) {
        for other in others.values_mut().filter_map(Node::as_mapping_mut) {
            other.retain(|key, node| key != "restart" || !is_empty(node));
        }
    }
    each(service.get_mut("secrets"), |secret| {
        let name = secret.get("source").and_then(Node::as_str).map(str::to_owned);
        if let (Some(name), false) = (name, secret.contains_key("target")) {
            let place = Node::derived(format!("/run/secrets/{name}").as_str());
            secret.shift_insert(1, "target".to_owned(), place);
        }
    });
    scalars(service);
}

/// Adds what Docker's JSON has of every service, deployment and network.
pub(super) fn for_json(tree: &mut Node) {
    let empty = || Node::derived(Mapping::new());
    for service in entries(tree, "services") {
        for key in ["command", "entrypoint"] {
            service.entry(key.to_owned()).or_insert_with(|| Node::derived(Value::Null));
        }
        if let Some(Value::Mapping(deploy)) = service.get_mut("deploy").map(|node| &mut node.value) {
            for key in ["placement", "resources"] {
                deploy.entry(key.to_owned()).or_insert_with(empty);
            }
        }
        service.sort_by(|left, _, right, _| (left != "profiles", left).cmp(&(right != "profiles", right)));
    }
    for network in entries(tree, "networks") {
        network.entry("ipam".to_owned()).or_insert_with(empty);
    }
}

fn entries<'a>(tree: &'a mut Node, section: &str) -> impl Iterator<Item = &'a mut Mapping> {
    let section = tree.get_mut(section).and_then(Node::as_mapping_mut);
    section.into_iter().flat_map(|section| section.values_mut()).filter_map(Node::as_mapping_mut)
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Mapping(mapping) => mapping.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        value => *value == Value::Bool(false),
    }
}

fn scalars(service: &mut Mapping) {
    for key in ["configs", "secrets"] {
        each(service.get_mut(key), |reference| change(reference, "mode", octal));
    }
    each(service.get_mut("gpus"), |device| change(device, "count", count));
    let resources = service.get_mut("deploy").and_then(|deploy| deploy.get_mut("resources"));
    let Some(resources) = resources else { return };
    for key in ["limits", "reservations"] {
        let Some(Value::Mapping(amounts)) = resources.get_mut(key).map(|node| &mut node.value) else {
            continue;
        };
        change(amounts, "cpus", number);
        each(amounts.get_mut("devices"), |device| change(device, "count", count));
    }
}

fn each(list: Option<&mut Node>, mut work: impl FnMut(&mut Mapping)) {
    let Some(Value::Sequence(items)) = list.map(|node| &mut node.value) else { return };
    for item in items {
        if let Value::Mapping(mapping) = &mut item.value {
            work(mapping);
        }
    }
}

fn change(mapping: &mut Mapping, key: &str, new: fn(&Value) -> Option<Value>) {
    if let Some(node) = mapping.get_mut(key)
        && let Some(value) = new(&node.value)
    {
        node.value = value;
    }
}

fn octal(value: &Value) -> Option<Value> {
    match value {
        Value::Integer(mode) => Some(Value::String(format!("0{mode:o}"))),
        _ => None,
    }
}

fn count(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text == "all" => Some(Value::Integer(-1)),
        _ => None,
    }
}

fn number(value: &Value) -> Option<Value> {
    let Value::String(text) = value else { return None };
    text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Float)).ok()
}
