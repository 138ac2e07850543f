//! A loaded project: the canonical tree, what it was made of, and typed access to its services.

use crate::environment::Environment;
use crate::interpolate::Variable;
use crate::model::{Config, Network, Service, Volume};
use crate::tree::{Mapping, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One file's contribution, canonical, for `config --explain`.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The file.
    pub path: PathBuf,
    /// Its tree.
    pub tree: Node,
}

/// A project, ready to be shown or brought up.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// The Compose files, absolute.
    pub config_files: Vec<PathBuf>,
    /// The env files named on the command line, absolute.
    pub env_files: Vec<PathBuf>,
    /// Variables with their sources.
    pub environment: Environment,
    /// Active profiles.
    pub profiles: Vec<String>,
    /// The canonical tree of everything active.
    pub tree: Node,
    /// Services of inactive profiles.
    pub disabled: Mapping,
    /// What each file contributed.
    pub layers: Vec<Layer>,
    /// Variables the files mention.
    pub variables: BTreeSet<Variable>,
}

/// A typed view could not be made: the canonical tree holds something the model does not expect.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {source}")]
pub struct ModelError {
    place: String,
    #[source]
    source: serde_json::Error,
}

impl Project {
    /// A project known only by its name: what commands on existing containers work with where no file is.
    pub fn without_files(name: &str, directory: PathBuf) -> Self {
        Project {
            name: name.to_owned(),
            directory,
            config_files: Vec::new(),
            env_files: Vec::new(),
            environment: Environment::default(),
            profiles: Vec::new(),
            tree: Node::derived(Mapping::new()),
            disabled: Mapping::new(),
            layers: Vec::new(),
            variables: BTreeSet::new(),
        }
    }

    /// The nodes of a section.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Node)> {
        let mapping = self.tree.get(name).and_then(Node::as_mapping);
        mapping
            .into_iter()
            .flatten()
            .map(|(key, node)| (key.as_str(), node))
            .filter(|(key, _)| !key.starts_with("x-"))
    }

    /// Names of active services, in file order.
    pub fn service_names(&self) -> Vec<&str> {
        self.section("services").map(|(name, _)| name).collect()
    }

    /// All active services, typed.
    pub fn services(&self) -> Result<BTreeMap<String, Service>, ModelError> {
        self.typed("services")
    }

    /// All networks, typed.
    pub fn networks(&self) -> Result<BTreeMap<String, Network>, ModelError> {
        self.typed("networks")
    }

    /// All volumes, typed.
    pub fn volumes(&self) -> Result<BTreeMap<String, Volume>, ModelError> {
        self.typed("volumes")
    }

    /// All secrets, typed.
    pub fn secrets(&self) -> Result<BTreeMap<String, Config>, ModelError> {
        self.typed("secrets")
    }

    /// All configs, typed.
    pub fn configs(&self) -> Result<BTreeMap<String, Config>, ModelError> {
        self.typed("configs")
    }

    fn typed<T: serde::de::DeserializeOwned>(
        &self,
        section: &str,
    ) -> Result<BTreeMap<String, T>, ModelError> {
        self.section(section)
            .map(|(name, node)| {
                let place = || format!("{section}.{name}");
                let value = serde_json::from_value(node.to_json())
                    .map_err(|source| ModelError { place: place(), source })?;
                Ok((name.to_owned(), value))
            })
            .collect()
    }

    /// The image a service runs: its own, or the one that is built for it.
    pub fn image_of(&self, name: &str, service: &Service, separator: char) -> String {
        service.image.clone().unwrap_or_else(|| format!("{}{separator}{name}", self.name))
    }
}

/// The named services and everything they depend on.
pub fn with_dependencies(services: &Mapping, named: &[String]) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    let mut open: Vec<&str> = named.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        let Some(service) = services.get(name) else { continue };
        if wanted.insert(name.to_owned())
            && let Some(dependencies) = service.get("depends_on").and_then(Node::as_mapping)
        {
            open.extend(dependencies.keys().map(String::as_str));
        }
    }
    wanted
}
