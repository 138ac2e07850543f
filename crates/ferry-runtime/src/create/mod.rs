//! Creating and starting a container: the parent's side.
//!
//! Owns the choreography between the caller's process and the container's init.

mod step;

pub use step::Step;

use crate::error::CreateError;
use crate::request::{CreateRequest, Process};

/// Creates a container and starts its command; returns once `execve` succeeded.
///
/// On failure nothing is left: no process, no cgroup, no mount.
pub fn run(request: CreateRequest) -> Result<Process, CreateError> {
    create(request)?.start()
}

/// Creates a container whose init waits, fully set up, just before `execve`.
pub fn create(request: CreateRequest) -> Result<Created, CreateError> {
    let _ = request;
    Err(crate::error::SpecError::new("spec", "", "not yet").into())
}

/// A container that is set up and waits for its start.
#[derive(Debug)]
pub struct Created {
    process: Process,
}

impl Created {
    /// The waiting init.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Lets the container's command run; returns once `execve` succeeded.
    pub fn start(self) -> Result<Process, CreateError> {
        Ok(self.process)
    }
}
