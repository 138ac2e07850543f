//! `extends`: a service built on another one, of this file or of another.

use super::{Loader, discover};
use crate::diagnostic::{Diagnostic, nearest};
use crate::environment::{Environment, read_text};
use crate::files::absolute;
use crate::merge::{Tags, merge, merge_service};
use crate::tree::{Mapping, Node};
use std::path::{Path, PathBuf};

/// Services extending services; a longer chain is a mistake.
const MAX_DEPTH: usize = 64;

/// Replaces every service that extends another by the two merged.
pub(super) fn apply(
    loader: &mut Loader,
    root: &mut Node,
    before: Option<&Node>,
    directory: &Path,
    environment: &Environment,
) {
    let Some(services) = root.get("services").and_then(Node::as_mapping) else { return };
    let extending: Vec<String> =
        services.iter().filter(|(_, s)| s.get("extends").is_some()).map(|(name, _)| name.clone()).collect();
    if extending.is_empty() {
        return;
    }
    let scope = Scope { services: services.clone(), before: before.cloned(), directory, file: None };
    let mut resolved = Vec::new();
    for name in extending {
        let mut chain = Vec::new();
        if let Some(service) = resolve(loader, &scope, &name, None, environment, &mut chain) {
            resolved.push((name, service));
        }
    }
    let Some(services) = root.get_mut("services").and_then(Node::as_mapping_mut) else { return };
    for (name, service) in resolved {
        services.insert(name, service);
    }
}

/// Where the names of one file's services are looked up.
struct Scope<'a> {
    services: Mapping,
    /// What earlier files of the project defined.
    before: Option<Node>,
    /// What relative `file:` paths are relative to.
    directory: &'a Path,
    /// The file, when it is not one of the project's own.
    file: Option<PathBuf>,
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<&Node> {
        self.services.get(name).or_else(|| self.before.as_ref()?.get("services")?.get(name))
    }
}

/// The service with everything it extends merged beneath.
fn resolve(
    loader: &mut Loader,
    scope: &Scope,
    name: &str,
    from: Option<&Node>,
    environment: &Environment,
    chain: &mut Vec<(Option<PathBuf>, String)>,
) -> Option<Node> {
    let link = (scope.file.clone(), name.to_owned());
    let Some(service) = scope.find(name) else {
        let place = scope.file.as_ref().map(|file| format!(" in {}", file.display())).unwrap_or_default();
        let mut diagnostic =
            Diagnostic::error(format!("cannot extend service \"{name}\"{place}: it is not defined"));
        if let Some(candidate) = nearest(name, scope.services.keys().map(String::as_str)) {
            diagnostic = diagnostic.help(format!("did you mean \"{candidate}\"?"));
        }
        loader.report.push(from.map_or(diagnostic.clone(), |node| diagnostic.at(node.origin)));
        return None;
    };
    if chain.contains(&link) || chain.len() >= MAX_DEPTH {
        let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).chain([name]).collect();
        let message = format!("services extend each other in a cycle: {}", names.join(" -> "));
        let diagnostic = Diagnostic::error(message);
        loader.report.push(from.map_or(diagnostic.clone(), |node| diagnostic.at(node.origin)));
        return None;
    }
    let mut service = service.clone();
    let Some(extends) = service.as_mapping_mut().and_then(|mapping| mapping.shift_remove("extends")) else {
        return Some(service);
    };
    let Some(base_name) = extends.as_str().or_else(|| extends.get_str("service")) else {
        loader.report.push(Diagnostic::error("extends needs a \"service\"").at(extends.origin));
        return None;
    };
    chain.push(link);
    let base = match extends.get("file") {
        None => resolve(loader, scope, base_name, Some(&extends), environment, chain),
        Some(file) => {
            let path = match discover::is_remote(file.as_str()?) {
                false => absolute(scope.directory, file.as_str()?, environment.get("HOME")),
                true => match loader.fetched(file.as_str()?) {
                    Ok(fetched) => fetched.into_iter().next()?,
                    Err(diagnostic) => {
                        loader.report.push(diagnostic.at(file.origin));
                        return None;
                    }
                },
            };
            let tree = read(loader, &path, file, environment)?;
            let services = tree.get("services").and_then(Node::as_mapping).cloned().unwrap_or_default();
            let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
            let inner = Scope { services, before: None, directory: &directory, file: Some(path) };
            resolve(loader, &inner, base_name, Some(&extends), environment, chain)
        }
    };
    chain.pop();
    Some(merge_service(base?, service, Tags::Keep))
}

/// A file that is extended: prepared once, its documents merged, its own `extends` still in place.
fn read(loader: &mut Loader, path: &Path, at: &Node, environment: &Environment) -> Option<Node> {
    if let Some(known) = loader.extended.get(path) {
        return Some(known.clone());
    }
    let text = match read_text(path, loader.files) {
        Ok(text) => text,
        Err(diagnostic) => {
            loader.report.push(diagnostic.at(at.origin));
            return None;
        }
    };
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut tree = Node::derived(Mapping::new());
    for mut document in loader.parse(path, text) {
        loader.prepare(&mut document.node, &directory, environment);
        tree = merge(tree, document.node, Tags::Keep);
    }
    loader.extended.insert(path.to_owned(), tree.clone());
    Some(tree)
}
