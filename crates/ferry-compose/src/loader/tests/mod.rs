//! Golden tests of the loader: a file, a path into the result, and what stands there.

mod environment;
mod merging;
mod output;
mod projects;
mod syntax;

use super::{LoadError, Loaded, Request, load};
use crate::files::MemoryFiles;
use crate::tree::Node;
use std::path::PathBuf;

struct Case {
    files: Vec<(&'static str, String)>,
    request: Request,
}

fn app(text: &str) -> Case {
    Case {
        files: vec![("/app/compose.yaml", text.to_owned())],
        request: Request { working_dir: "/app".into(), ..Request::default() },
    }
}

impl Case {
    fn file(mut self, path: &'static str, text: &str) -> Self {
        self.files.push((path, text.to_owned()));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.request.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Request)) -> Self {
        change(&mut self.request);
        self
    }

    fn load(&self) -> Result<Loaded, Box<LoadError>> {
        let files = self.files.iter().map(|(path, text)| (PathBuf::from(path), text.clone().into_bytes()));
        load(&self.request, &MemoryFiles(files.collect()))
    }

    fn get(&self, path: &str) -> String {
        match self.load() {
            Ok(loaded) => at(&loaded.project.tree, path),
            Err(error) => format!("! {error}"),
        }
    }

    fn error(&self) -> String {
        match self.load() {
            Ok(loaded) => format!("loaded: {}", loaded.project.tree.to_json()),
            Err(error) => {
                error.report.diagnostics.iter().map(|d| d.message.clone()).collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn warnings(&self) -> String {
        match self.load() {
            Ok(loaded) => loaded.report.warnings().map(|d| d.message.clone()).collect::<Vec<_>>().join("; "),
            Err(error) => format!("! {error}"),
        }
    }
}

fn at(tree: &Node, path: &str) -> String {
    let mut node = tree;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let next = match part.parse::<usize>() {
            Ok(index) if node.as_sequence().is_some() => {
                node.as_sequence().and_then(|items| items.get(index))
            }
            _ => node.get(part),
        };
        match next {
            Some(found) => node = found,
            None => return "absent".to_owned(),
        }
    }
    node.to_json().to_string()
}

/// The value at `services/w/PATH` of a service `w` with one attribute given in flow style.
fn service(attribute: &str, path: &str) -> String {
    let (key, _) = attribute.split_once(':').unwrap();
    let path = if path.is_empty() { key.to_owned() } else { path.to_owned() };
    let extra = "networks: {front: {}, back: {}}\nvolumes: {data: {}, v: {}}\nsecrets: {s: {file: ./s}}\nconfigs: {c: {file: ./c}}\n";
    app(&format!("services:\n  w:\n    image: i\n    {attribute}\n  db: {{image: d}}\n{extra}"))
        .get(&format!("services/w/{path}"))
}
