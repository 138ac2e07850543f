//! `include`: other projects' files, each with its own folder and its own `.env`.

use super::{Loader, discover};
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::files::absolute;
use crate::merge::{Tags, merge};
use crate::tree::{Mapping, Node};
use std::path::{Path, PathBuf};

/// Includes inside includes; real projects nest three.
const MAX_DEPTH: usize = 16;

/// The keys an included file contributes.
const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "secrets", "configs", "models"];

/// Loads all entries and lays them on each other.
pub(super) fn load(
    loader: &mut Loader,
    includes: &Node,
    directory: &Path,
    environment: &Environment,
    including: &mut Vec<PathBuf>,
) -> Option<Node> {
    let mut merged = Node::derived(Mapping::new());
    let mut seen: Vec<Vec<PathBuf>> = Vec::new();
    let Some(items) = includes.as_sequence() else {
        let message = format!("include must be a list, not {}", includes.type_name());
        loader.report.push(Diagnostic::error(message).at(includes.origin));
        return None;
    };
    for item in items {
        let Some(entry) = Entry::read(loader, item, directory, environment) else { continue };
        // The same files named twice are one inclusion.
        if seen.contains(&entry.paths) {
            continue;
        }
        seen.push(entry.paths.clone());
        if let Some(model) = load_entry(loader, &entry, item, environment, including) {
            merged = merge(merged, model, Tags::Drop);
        }
    }
    Some(merged)
}

struct Entry {
    paths: Vec<PathBuf>,
    directory: PathBuf,
    env_files: Vec<PathBuf>,
}

impl Entry {
    fn read(loader: &mut Loader, item: &Node, directory: &Path, environment: &Environment) -> Option<Self> {
        let home = environment.get("HOME");
        let texts = |node: Option<&Node>| -> Vec<String> {
            match node {
                Some(node) => match node.as_sequence() {
                    Some(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
                    None => node.as_str().map(str::to_owned).into_iter().collect(),
                },
                None => Vec::new(),
            }
        };
        let paths = if item.as_str().is_some() { texts(Some(item)) } else { texts(item.get("path")) };
        if paths.is_empty() {
            let message = "an include is a path or a mapping with a \"path\"";
            loader.report.push(Diagnostic::error(message).at(item.origin));
            return None;
        }
        let paths = local(loader, &paths, item, directory, home)?;
        let own = match item.get_str("project_directory") {
            Some(path) => absolute(directory, path, home),
            None => paths[0].parent().unwrap_or(directory).to_owned(),
        };
        let named = texts(item.get("env_file"));
        let env_files = if named.is_empty() {
            let default = own.join(".env");
            if loader.files.exists(&default) && !loader.files.is_dir(&default) {
                vec![default]
            } else {
                Vec::new()
            }
        } else {
            let paths = named.iter().filter(|path| *path != "/dev/null");
            paths.map(|path| absolute(directory, path, home)).collect()
        };
        Some(Entry { paths, directory: own, env_files })
    }
}

/// The files on disk: relative to the including file, or as they were fetched.
fn local(
    loader: &mut Loader,
    paths: &[String],
    item: &Node,
    directory: &Path,
    home: Option<&str>,
) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !discover::is_remote(path) {
            found.push(absolute(directory, path, home));
            continue;
        }
        match loader.fetched(path) {
            Ok(fetched) => found.extend(fetched),
            Err(diagnostic) => {
                loader.report.push(diagnostic.at(item.origin));
                return None;
            }
        }
    }
    Some(found)
}

fn load_entry(
    loader: &mut Loader,
    entry: &Entry,
    item: &Node,
    environment: &Environment,
    including: &mut Vec<PathBuf>,
) -> Option<Node> {
    if let Some(path) = entry.paths.iter().find(|path| including.contains(path)) {
        let chain: Vec<String> =
            including.iter().chain([path]).map(|path| path.display().to_string()).collect();
        let message = format!("include cycle: {}", chain.join(" -> "));
        loader.report.push(Diagnostic::error(message).at(item.origin));
        return None;
    }
    if including.len() >= MAX_DEPTH {
        loader.report.push(
            Diagnostic::error(format!("includes are nested more than {MAX_DEPTH} deep")).at(item.origin),
        );
        return None;
    }
    let mut own_environment = environment.clone();
    own_environment.add_files(&entry.env_files, loader.files, &mut loader.sources, &mut loader.report);
    let missing: Vec<&PathBuf> = entry.paths.iter().filter(|path| !loader.files.exists(path)).collect();
    if let Some(path) = missing.first() {
        let message = format!("included file {} does not exist", path.display());
        loader.report.push(Diagnostic::error(message).at(item.origin));
        return None;
    }
    let documents = loader.read_documents(&entry.paths);
    including.extend(entry.paths.iter().cloned());
    let mut model = loader.merge_documents(documents, &entry.directory, &own_environment, including);
    including.truncate(including.len() - entry.paths.len());
    if let Some(mapping) = model.as_mapping_mut() {
        mapping.retain(|key, _| SECTIONS.contains(&key.as_str()) || key.starts_with("x-"));
    }
    Some(model)
}
