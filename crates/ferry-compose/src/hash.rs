//! Configuration hashes: a service, network or volume is unchanged while its hash is.
//!
//! Owns what counts as a change and the version of the algorithm. The hash says only "unchanged";
//! that something changed is decided field by field, so a new version never recreates a container.

use crate::tree::Node;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

/// The version of the algorithm; part of the hashed text.
pub const VERSION: &str = "2";

/// Attributes that change nothing about a container.
const NOT_IN_CONTAINER: [&str; 11] = [
    "build",
    "pull_policy",
    "scale",
    "depends_on",
    "profiles",
    "develop",
    "attach",
    "env_file",
    "label_file",
    "pre_stop",
    "extends",
];

/// The hash of a service, its environment read.
pub fn service(node: &Node) -> String {
    let mut json = node.to_json();
    if let Json::Object(map) = &mut json {
        map.retain(|key, _| !NOT_IN_CONTAINER.contains(&key.as_str()) && !key.starts_with("x-"));
        if let Some(Json::Object(deploy)) = map.get_mut("deploy") {
            for key in ["replicas", "update_config", "rollback_config", "labels"] {
                deploy.shift_remove(key);
            }
        }
    }
    digest(&json)
}

/// The hash of a network or volume.
pub fn resource(node: &Node) -> String {
    let mut json = node.to_json();
    if let Json::Object(map) = &mut json {
        map.retain(|key, _| !key.starts_with("x-"));
    }
    digest(&json)
}

fn digest(json: &Json) -> String {
    let text = canonical(json).to_string();
    hex::encode(Sha256::digest(format!("ferry compose {VERSION}\n{text}").as_bytes()))
}

/// Keys sorted and empty values left out: the order of a file and an empty list change nothing.
fn canonical(json: &Json) -> Json {
    match json {
        Json::Object(map) => {
            let mut entries: Vec<(&String, Json)> = map
                .iter()
                .map(|(key, value)| (key, canonical(value)))
                .filter(|(key, value)| !changes_nothing(key, value))
                .collect();
            entries.sort_by_key(|(key, _)| *key);
            Json::Object(entries.into_iter().map(|(key, value)| (key.clone(), value)).collect::<Map<_, _>>())
        }
        Json::Array(items) => Json::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// An empty list is no list, except that an empty command is one; no command is the image's.
fn changes_nothing(key: &str, value: &Json) -> bool {
    let is_command = matches!(key, "command" | "entrypoint");
    match value {
        Json::Array(items) => items.is_empty() && !is_command,
        Json::Null => is_command,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Report;
    use crate::source::Sources;

    fn hash(text: &str) -> String {
        let mut sources = Sources::default();
        let file = sources.add("f", text);
        service(&crate::yaml::parse(file, text, &mut Report::default())[0])
    }

    #[test]
    fn what_changes_the_hash() {
        let base = hash("{image: a, environment: {A: '1', B: '2'}}");
        for (text, same) in [
            ("{environment: {B: '2', A: '1'}, image: a}", true),
            ("{image: a, environment: {A: '1', B: '2'}, scale: 3}", true),
            ("{image: a, environment: {A: '1', B: '2'}, depends_on: {x: {condition: y}}}", true),
            ("{image: a, environment: {A: '1', B: '2'}, ports: []}", true),
            ("{image: a, environment: {A: '1', B: '2'}, command: null}", true),
            ("{image: a, environment: {A: '1', B: '2'}, x-note: 1}", true),
            ("{image: a, environment: {A: '1', B: '2'}, command: []}", false),
            ("{image: b, environment: {A: '1', B: '2'}}", false),
            ("{image: a, environment: {A: '1', B: '3'}}", false),
            ("{image: a, environment: {A: '1', B: '2'}, user: x}", false),
        ] {
            assert_eq!(hash(text) == base, same, "{text}");
        }
    }
}
