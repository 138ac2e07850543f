//! What the engine has of a project: containers, networks, volumes and images, as the plan needs them.
//!
//! Owns the reading of the engine's lists; asks nothing itself.

use crate::labels;
use ferry_api::container::Summary;
use ferry_api::{network, volume};
use std::collections::BTreeMap;

/// Everything found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Containers labelled with the project, by name.
    pub containers: Vec<FoundContainer>,
    /// Networks by real name.
    pub networks: BTreeMap<String, FoundResource>,
    /// Volumes by real name.
    pub volumes: BTreeMap<String, FoundResource>,
}

/// A network or volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundResource {
    /// A network's id; a volume's name.
    pub id: String,
    /// The project it belongs to.
    pub project: Option<String>,
    /// Its configuration's hash and the version of the algorithm.
    pub hash: Option<String>,
    /// See [`labels::HASH_VERSION`].
    pub hash_version: Option<String>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// On its way out.
    Removing,
    /// Ended.
    Exited,
    /// Broken.
    Dead,
}

impl Status {
    /// Reads the engine's word.
    pub fn parse(word: &str) -> Status {
        match word {
            "running" => Status::Running,
            "paused" => Status::Paused,
            "restarting" => Status::Restarting,
            "removing" => Status::Removing,
            "exited" => Status::Exited,
            "dead" => Status::Dead,
            _ => Status::Created,
        }
    }

    /// Whether its processes exist.
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

/// A difference between a container and what its service wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The attribute, as a Compose file names it where it has such a name.
    pub field: String,
    /// What the container has.
    pub found: String,
    /// What the service wants.
    pub wanted: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
        write!(f, "{}: {} -> {}", self.field, shown(&self.found), shown(&self.wanted))
    }
}

/// A container of the project.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundContainer {
    /// Its id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The service it belongs to.
    pub service: String,
    /// Replica number.
    pub number: Option<u32>,
    /// Made by `run`.
    pub oneoff: bool,
    /// Runs a hook.
    pub hook: bool,
    /// What it does.
    pub status: Status,
    /// Exit code of an ended one, from its status text.
    pub exit_code: Option<i64>,
    /// Health, where it has a check.
    pub health: Option<String>,
    /// Hash of its configuration.
    pub hash: Option<String>,
    /// Version of the algorithm.
    pub hash_version: Option<String>,
    /// Image id it was made from.
    pub image: Option<String>,
    /// Network ids by name.
    pub networks: BTreeMap<String, String>,
    /// Volume names by target path.
    pub volumes: BTreeMap<String, String>,
    /// Field by field comparison, once it was made.
    pub drift: Option<Vec<Change>>,
    /// Namespaces of other containers it shares, by attribute (`ipc`), once it was inspected.
    pub shared: BTreeMap<String, String>,
    /// The whole line of the engine's list.
    pub summary: Summary,
}

impl FoundContainer {
    /// Reads one line of the engine's list; absent when it is not a Compose container.
    pub fn read(summary: Summary) -> Option<Self> {
        let label = |name: &str| summary.labels.get(name).cloned();
        let service = label(labels::SERVICE)?;
        let networks = summary.network_settings.networks.iter();
        let volumes = summary.mounts.iter().filter(|mount| mount.kind == "volume");
        Some(FoundContainer {
            id: summary.id.clone(),
            name: summary
                .names
                .first()
                .map(|name| name.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            service,
            number: label(labels::NUMBER).and_then(|number| number.parse().ok()),
            oneoff: label(labels::ONEOFF).as_deref() == Some("True"),
            hook: summary.labels.contains_key(labels::HOOK),
            status: Status::parse(&summary.state),
            exit_code: exit_code(&summary.status),
            health: summary
                .health
                .as_ref()
                .map(|health| health.status.clone())
                .or_else(|| health(&summary.status)),
            hash: label(labels::HASH),
            hash_version: label(labels::HASH_VERSION),
            image: label(labels::IMAGE).filter(|id| !id.is_empty()),
            networks: networks.map(|(name, endpoint)| (name.clone(), endpoint.network_id.clone())).collect(),
            volumes: volumes.map(|mount| (mount.destination.clone(), mount.name.clone())).collect(),
            drift: None,
            shared: BTreeMap::new(),
            summary,
        })
    }
}

/// `Exited (3) 2 minutes ago` to 3.
fn exit_code(status: &str) -> Option<i64> {
    let (_, rest) = status.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

/// `Up 2 minutes (healthy)` to healthy: older engines tell health only there.
fn health(status: &str) -> Option<String> {
    let word = status.strip_suffix(')')?.rsplit_once('(')?.1;
    let word = word.strip_prefix("health: ").unwrap_or(word);
    matches!(word, "healthy" | "unhealthy" | "starting").then(|| word.to_owned())
}

/// Reads a network.
pub fn network(network: &network::Network) -> FoundResource {
    resource(network.id.clone(), &network.labels)
}

/// Reads a volume.
pub fn volume(volume: &volume::Volume) -> FoundResource {
    resource(volume.name.clone(), volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
}

fn resource(id: String, found: &BTreeMap<String, String>) -> FoundResource {
    FoundResource {
        id,
        project: found.get(labels::PROJECT).cloned(),
        hash: found.get(labels::HASH).cloned(),
        hash_version: found.get(labels::HASH_VERSION).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts() {
        assert_eq!(exit_code("Exited (137) 2 hours ago"), Some(137));
        assert_eq!(exit_code("Up 2 minutes (healthy)"), None);
        assert_eq!(health("Up 2 minutes (healthy)").as_deref(), Some("healthy"));
        assert_eq!(health("Up 2 minutes (health: starting)").as_deref(), Some("starting"));
        assert_eq!(health("Up 2 minutes"), None);
    }
}
