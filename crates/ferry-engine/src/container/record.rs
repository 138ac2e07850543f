//! `record.json`: a container as it is kept on disk, from creation to removal.
//!
//! Version 1. Fields are only added, with a default; a record of a newer version is refused, because acting on
//! half-understood settings could start a container with less isolation than was asked for.

use std::collections::BTreeMap;

use ferry_api::container::{Config, EndpointSettings, Health, HostConfig};
use ferry_oci::Digest;
use serde::{Deserialize, Serialize};

use super::state::Status;
use crate::spec::mounts::MountPlan;

/// Version written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Everything about a container that outlives the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// Full id.
    pub id: String,
    /// Name without slash.
    pub name: String,
    /// When it was created.
    pub created: String,
    /// Id of its image.
    pub image_id: String,
    /// Layers of its image, lowest first.
    pub layers: Vec<Digest>,
    /// What it is, image defaults filled in.
    pub config: Config,
    /// How it runs on this host, defaults filled in.
    pub host_config: HostConfig,
    /// Its networks by name: what was asked for and what it got.
    #[serde(default)]
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Volumes, binds and other mounts, in the order they are mounted.
    #[serde(default)]
    pub mounts: Vec<MountPlan>,
    /// What changes while it lives.
    pub state: RunState,
}

/// The changing part of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// Where it stands.
    pub status: Status,
    /// Host's process id of its first process; 0 when none runs.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed, or the run was lost.
    pub error: String,
    /// The kernel killed a process for lack of memory in the last run.
    pub oom_killed: bool,
    /// Of the last run; Go's zero time before the first.
    pub started_at: String,
    /// Of the last run; Go's zero time before the first end.
    pub finished_at: String,
    /// How many starts were tried; the monitor puts it into the exit record.
    pub generation: u64,
    /// Restarts by policy since the last start by a person.
    pub restart_count: u32,
    /// A person stopped or killed it: policies leave it alone.
    pub manually_stopped: bool,
    /// Ports as they came to be in this run.
    pub published: ferry_api::container::PortMap,
    /// Another container has its ports now; it asks for them again at its next start.
    pub ports_given: bool,
    /// A path to its network namespace in this run.
    pub sandbox_key: String,
    /// Result of its probes, when it has any.
    pub health: Option<Health>,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: ferry_api::ZERO_TIME.into(),
            finished_at: ferry_api::ZERO_TIME.into(),
            generation: 0,
            restart_count: 0,
            manually_stopped: false,
            published: ferry_api::container::PortMap::new(),
            ports_given: false,
            sandbox_key: String::new(),
            health: None,
        }
    }
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not of this shape.
    #[error("record of container {id} is damaged")]
    Damaged {
        /// The directory's name.
        id: String,
        /// The place in it.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer ferry.
    #[error("record of container {id} has version {version}; this ferry reads up to {VERSION}")]
    Newer {
        /// The directory's name.
        id: String,
        /// What it says.
        version: u32,
    },
}

impl Record {
    /// The bytes to write.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records have string keys and no failing serializers")
    }

    /// Reads what was written.
    pub fn decode(id: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let damaged = |source| RecordError::Damaged { id: id.to_owned(), source };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.version > VERSION {
            return Err(RecordError::Newer { id: id.to_owned(), version: head.version });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The program and its arguments: entrypoint, then command.
    pub fn argv(&self) -> Vec<String> {
        let entrypoint = self.config.entrypoint.iter().flatten();
        entrypoint.chain(self.config.cmd.iter().flatten()).cloned().collect()
    }

    /// Fsync for this container's changes? Not for one that is removed at its end anyway.
    pub fn durable(&self) -> bool {
        !self.host_config.auto_remove
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_and_damaged_records_are_refused() {
        let newer = Record::decode("abc", br#"{"version":2,"anything":1}"#).unwrap_err();
        assert_eq!(newer.to_string(), "record of container abc has version 2; this ferry reads up to 1");
        let damaged = Record::decode("abc", b"{\"version\":1").unwrap_err();
        assert_eq!(damaged.to_string(), "record of container abc is damaged");
    }

    #[test]
    fn a_record_of_version_one_reads() {
        let text = r#"{"version":1,"id":"abc","name":"web","created":"2026-01-02T03:04:05Z",
            "image_id":"sha256:00","layers":[],"config":{"Image":"busybox","Cmd":["sh"],"Entrypoint":["/i"]},
            "host_config":{"NetworkMode":"none"},"state":{"status":"exited","exit_code":3}}"#;
        let record = Record::decode("abc", text.as_bytes()).unwrap();
        assert_eq!(record.argv(), ["/i", "sh"]);
        assert_eq!(record.state.exit_code, 3);
        assert_eq!(record.state.started_at, ferry_api::ZERO_TIME);
        assert!(record.durable());
        let again = Record::decode("abc", &record.encode()).unwrap();
        assert_eq!(again.name, "web");
    }
}
