//! The project's environment: process variables, then `.env` files, each value with its source.
//!
//! Owns precedence (the process wins); reads files only through [`Files`].

use crate::diagnostic::{Diagnostic, Report};
use crate::dotenv;
use crate::files::Files;
use crate::source::{Origin, Sources};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a variable came from.
#[derive(Clone, Debug, PartialEq)]
pub enum VariableSource {
    /// The environment of the process.
    Process,
    /// A line of an env file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
    },
    /// Set by Ferry (`COMPOSE_PROJECT_NAME`).
    Derived,
}

impl std::fmt::Display for VariableSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VariableSource::Process => f.write_str("the environment"),
            VariableSource::File { path, line } => write!(f, "{}:{line}", path.display()),
            VariableSource::Derived => f.write_str("the project name"),
        }
    }
}

/// A variable's value and source.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value.
    pub value: String,
    /// Its source.
    pub source: VariableSource,
}

/// All variables of a project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    entries: BTreeMap<String, Entry>,
}

impl Environment {
    /// The variables of a process.
    pub fn from_process(variables: &BTreeMap<String, String>) -> Self {
        let entry = |value: &String| Entry { value: value.clone(), source: VariableSource::Process };
        Environment { entries: variables.iter().map(|(name, value)| (name.clone(), entry(value))).collect() }
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|entry| entry.value.as_str())
    }

    /// A variable with its source.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Sets a variable that Ferry derives.
    pub fn set_derived(&mut self, name: &str, value: &str) {
        let entry = Entry { value: value.to_owned(), source: VariableSource::Derived };
        self.entries.insert(name.to_owned(), entry);
    }

    /// Whether a variable is set to something true.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(crate::units::parse_boolean).is_some_and(|(value, _)| value)
    }

    /// Adds the variables of one or several files beneath what is known; later files win over earlier ones.
    pub fn add_files(
        &mut self,
        paths: &[PathBuf],
        files: &dyn Files,
        sources: &mut Sources,
        report: &mut Report,
    ) {
        let mut layer: BTreeMap<String, Entry> = BTreeMap::new();
        for path in paths {
            let outer = |name: &str| {
                self.get(name).map(str::to_owned).or_else(|| layer.get(name).map(|entry| entry.value.clone()))
            };
            let found = match read_assignments(path, files, sources, &outer) {
                Ok(found) => found,
                Err(diagnostic) => {
                    report.push(*diagnostic);
                    continue;
                }
            };
            for assignment in found {
                // A name alone inherits the process's value, which is there already.
                let Some(value) = assignment.value else { continue };
                let source = VariableSource::File { path: path.clone(), line: assignment.line };
                layer.insert(assignment.key, Entry { value, source });
            }
        }
        for (name, entry) in layer {
            self.entries.entry(name).or_insert(entry);
        }
    }
}

/// Reads and parses one env file.
pub fn read_assignments(
    path: &Path,
    files: &dyn Files,
    sources: &mut Sources,
    outer: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<dotenv::Assignment>, Box<Diagnostic>> {
    let text = read_text(path, files)?;
    dotenv::parse(&text, outer).map_err(|error| {
        let file = sources.add(path, text.clone());
        let origin = Origin { file, line: error.line(), column: 1 };
        Box::new(Diagnostic::error(format!("failed to read {}: {error}", path.display())).at(origin))
    })
}

/// Reads a text file whole.
pub fn read_text(path: &Path, files: &dyn Files) -> Result<String, Box<Diagnostic>> {
    let fail = |why: &dyn std::fmt::Display| {
        Box::new(Diagnostic::error(format!("cannot read {}: {why}", path.display())))
    };
    let bytes = files.read(path).map_err(|error| fail(&crate::files::describe(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        fail(&format!("line {line} is not UTF-8"))
    })
}
