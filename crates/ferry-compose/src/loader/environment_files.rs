//! `env_file` and `label_file` of the services that take part, and values taken from the environment.

use super::Loader;
use crate::diagnostic::Diagnostic;
use crate::dotenv;
use crate::environment::{Environment, read_text};
use crate::source::{FileId, Origin};
use crate::tree::{Mapping, Node, Value};
use std::path::Path;

/// Reads the files of every service that takes part and merges them beneath `environment` and `labels`.
pub(super) fn resolve(loader: &mut Loader, root: &mut Node, environment: &Environment) {
    let named = &loader.request.services;
    let mut services =
        root.get_mut("services").and_then(Node::as_mapping_mut).map(std::mem::take).unwrap_or_default();
    // A missing env_file of a service nobody asked for must not fail; its dependencies take part too.
    let wanted =
        if named.is_empty() { None } else { Some(crate::project::with_dependencies(&services, named)) };
    for (name, service) in &mut services {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(name)) {
            resolve_environment(loader, name, service, environment);
            resolve_labels(loader, name, service, environment);
        }
    }
    if let Some(mapping) = root.get_mut("services").and_then(Node::as_mapping_mut) {
        *mapping = services;
    }
}

fn resolve_environment(loader: &mut Loader, name: &str, service: &mut Node, environment: &Environment) {
    let own = service.get("environment").and_then(Node::as_mapping).cloned().unwrap_or_default();
    let files = service.as_mapping_mut().and_then(|mapping| mapping.shift_remove("env_file"));
    let mut merged = Mapping::new();
    for file in files.as_ref().and_then(Node::as_sequence).unwrap_or_default() {
        read_env_file(loader, name, file, environment, &own, &mut merged);
    }
    for (key, node) in own {
        // A bare key takes its value from the project; where it has none the variable is not set.
        let value = match (&node.value, environment.get(&key)) {
            (Value::Null, Some(value)) => node.with(value),
            _ => node,
        };
        merged.insert(key, value);
    }
    if !merged.is_empty()
        && let Some(mapping) = service.as_mapping_mut()
    {
        let origin = mapping.get("environment").map_or(Origin::DEFAULT, |node| node.origin);
        mapping.insert("environment".to_owned(), Node::new(Value::Mapping(merged), origin));
    }
}

fn read_env_file(
    loader: &mut Loader,
    name: &str,
    file: &Node,
    environment: &Environment,
    own: &Mapping,
    merged: &mut Mapping,
) {
    let Some(path) = file.get_str("path") else { return };
    let path = Path::new(path);
    let required = !matches!(file.get("required").map(|node| &node.value), Some(Value::Bool(false)));
    if !required && !loader.files.exists(path) {
        return;
    }
    let text = match read_text(path, loader.files) {
        Ok(text) => text,
        Err(diagnostic) => {
            let message = format!("service \"{name}\": {}", diagnostic.message);
            loader.report.push(Diagnostic::error(message).at(file.origin));
            return;
        }
    };
    let outer = |key: &str| {
        let text = |node: &Node| node.as_str().map(str::to_owned);
        environment
            .get(key)
            .map(str::to_owned)
            .or_else(|| own.get(key).and_then(text))
            .or_else(|| merged.get(key).and_then(text))
    };
    let parsed = match file.get_str("format") {
        Some("raw") => dotenv::parse_raw(&text),
        _ => dotenv::parse(&text, &outer),
    };
    match parsed {
        Ok(found) => {
            let id = loader.sources.add(path, text);
            found.into_iter().for_each(|assignment| insert(merged, assignment, id, environment));
        }
        Err(error) => {
            let id = loader.sources.add(path, text);
            let origin = Origin { file: id, line: error.line(), column: 1 };
            loader.report.push(Diagnostic::error(format!("service \"{name}\": {error}")).at(origin));
        }
    }
}

/// A key alone is inherited from the project's environment, and skipped where that has none.
fn insert(merged: &mut Mapping, assignment: dotenv::Assignment, file: FileId, environment: &Environment) {
    let inherited = || environment.get(&assignment.key).map(str::to_owned);
    let Some(value) = assignment.value.clone().or_else(inherited) else { return };
    let origin = Origin { file, line: assignment.line, column: 1 };
    merged.insert(assignment.key, Node::new(Value::String(value), origin));
}

fn resolve_labels(loader: &mut Loader, name: &str, service: &mut Node, environment: &Environment) {
    let Some(files) = service.as_mapping_mut().and_then(|mapping| mapping.shift_remove("label_file")) else {
        return;
    };
    let own = service.get("labels").and_then(Node::as_mapping).cloned().unwrap_or_default();
    let mut merged = Mapping::new();
    for file in files.as_sequence().unwrap_or_default() {
        let Some(path) = file.as_str() else { continue };
        let lookup = |key: &str| environment.get(key).map(str::to_owned);
        match crate::environment::read_assignments(
            Path::new(path),
            loader.files,
            &mut loader.sources,
            &lookup,
        ) {
            Ok(found) => {
                for assignment in found {
                    let value = assignment.value.unwrap_or_default();
                    merged.insert(assignment.key, Node::new(Value::String(value), file.origin));
                }
            }
            Err(diagnostic) => {
                let message = format!("service \"{name}\": {}", diagnostic.message);
                loader.report.push(Diagnostic { message, ..*diagnostic }.at(file.origin));
            }
        }
    }
    merged.extend(own);
    if let Some(mapping) = service.as_mapping_mut() {
        mapping.insert("labels".to_owned(), Node::derived(merged));
    }
}
