//! Running a further process in a container.

use crate::error::ExecError;
use crate::request::{ExecRequest, Process};

/// Starts a process inside a running container; returns once `execve` succeeded.
///
/// The process is the caller's child, though it lives in the container's pid namespace.
pub fn exec(request: ExecRequest<'_>) -> Result<Process, ExecError> {
    let _ = request;
    Err(crate::error::SpecError::new("process", "", "not yet").into())
}
