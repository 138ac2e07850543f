//! The plan: the difference between a project and what the engine has of it, as steps with reasons.
//!
//! Owns what is created, recreated, started, stopped and removed, and in which order. Pure: the same target and
//! findings give the same plan; carrying it out is [`crate::apply`]'s.

mod divergence;
mod down;
mod drift;
mod render;
#[cfg(test)]
mod tests;
mod up;

pub use divergence::needs_inspection;
pub use down::{DownOptions, down, stop};
pub use drift::drift;
pub use up::{UpOptions, up};

use crate::model::Condition;
use std::time::Duration;

/// When an existing container is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When it differs from its service.
    #[default]
    Diverged,
    /// Always.
    Force,
    /// Never.
    Never,
}

/// How a replacement goes on by `deploy.update_config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The new one is started, and healthy, before the old one is stopped, and takes its ports over.
    pub start_first: bool,
    /// How long the new one is looked at after its start.
    pub monitor: Option<Duration>,
    /// The pause after the replacement before it.
    pub delay: Option<Duration>,
    /// What a new container that fails means.
    pub on_failure: OnFailure,
    /// So many may fail before that: `max_failure_ratio` of the replicas.
    pub may_fail: usize,
    /// The way back.
    pub back: Back,
}

/// How replicas go back to what they were, by `deploy.rollback_config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Back {
    /// At once; none: all of them.
    pub parallelism: Option<usize>,
    /// As in [`Update`]; as the update was, where nothing says it.
    pub start_first: Option<bool>,
    /// How long one is looked at after its start.
    pub monitor: Option<Duration>,
    /// The pause between two batches.
    pub delay: Option<Duration>,
    /// One that fails does not end it.
    pub goes_on: bool,
}

/// `failure_action`: in each case the old container stays, or comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The update ends there.
    Pause,
    /// The next replica is tried.
    Continue,
    /// The update ends, and replicas replaced before go back to what they were.
    Rollback,
}

/// What one step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates a network of the project.
    CreateNetwork {
        /// Its key.
        key: String,
        /// Its real name.
        name: String,
    },
    /// Takes a changed network away from its containers and creates it anew.
    RecreateNetwork {
        /// Its key.
        key: String,
        /// Its real name.
        name: String,
        /// The old one.
        id: String,
    },
    /// Creates a volume.
    CreateVolume {
        /// Its key.
        key: String,
        /// Its real name.
        name: String,
    },
    /// Creates a container.
    Create {
        /// The service.
        service: String,
        /// Replica number.
        number: u32,
        /// The container's name.
        name: String,
    },
    /// Replaces a container: new one under a temporary name, old one stopped and removed, renamed.
    Recreate {
        /// The service.
        service: String,
        /// Replica number.
        number: u32,
        /// The final name.
        name: String,
        /// The old one.
        id: String,
        /// The old one's name.
        old_name: String,
        /// Anonymous volumes go over to the new one.
        inherit_volumes: bool,
        /// What `deploy.update_config` asks for: the new one must prove itself before the old one is removed.
        update: Option<Update>,
    },
    /// Gives a container its name, after a replacement that was broken off just before.
    Rename {
        /// The service.
        service: String,
        /// The final name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Starts a container.
    Start {
        /// The service.
        service: String,
        /// The container's name.
        name: String,
        /// Its id, when it is not a step of this plan that makes it.
        id: Option<String>,
    },
    /// Waits for all containers of a service.
    Wait {
        /// The service waited for.
        service: String,
        /// What for.
        condition: Condition,
        /// Whether its failure ends the plan.
        required: bool,
    },
    /// Stops a container.
    Stop {
        /// The service.
        service: String,
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Removes a container.
    Remove {
        /// The service.
        service: String,
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// With its anonymous volumes.
        volumes: bool,
    },
    /// Removes a network.
    RemoveNetwork {
        /// Its real name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Removes a volume.
    RemoveVolume {
        /// Its real name.
        name: String,
    },
    /// Removes an image.
    RemoveImage {
        /// Its name.
        name: String,
    },
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Steps that must be done before, by index.
    pub after: Vec<usize>,
    /// Why it is there.
    pub reasons: Vec<String>,
}

/// Steps in an order in which each comes after those it needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Containers that are as they should be, by name.
    pub unchanged: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, action: Action, after: Vec<usize>, reasons: Vec<String>) -> usize {
        debug_assert!(
            after.iter().all(|index| *index < self.steps.len()),
            "steps only wait for earlier ones"
        );
        let mut after = after;
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step { action, after, reasons });
        self.steps.len() - 1
    }
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A service the project does not have.
    #[error("no such service: {name}")]
    NoSuchService {
        /// The name given.
        name: String,
        /// What may be meant.
        hint: Option<String>,
    },
    /// An external network that is not there.
    #[error("network {name} declared as external, but could not be found")]
    NoExternalNetwork {
        /// Its name.
        name: String,
    },
    /// An external volume that is not there.
    #[error("external volume \"{name}\" not found")]
    NoExternalVolume {
        /// Its name.
        name: String,
    },
    /// Several containers that would need the same name.
    #[error("service \"{service}\" has container_name \"{name}\", which {count} containers cannot share")]
    NamedAndScaled {
        /// The service.
        service: String,
        /// The name.
        name: String,
        /// How many are wanted.
        count: usize,
    },
}

impl PlanError {
    /// What to type instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            PlanError::NoSuchService { hint, .. } => hint.clone(),
            PlanError::NoExternalNetwork { name } => Some(format!("create it: docker network create {name}")),
            PlanError::NoExternalVolume { name } => Some(format!("create it: docker volume create {name}")),
            PlanError::NamedAndScaled { .. } => {
                Some("take container_name out of the Compose file".to_owned())
            }
        }
    }
}
