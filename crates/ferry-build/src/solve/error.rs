//! Why a build failed.

use std::sync::Arc;

use ferry_store::SnapshotError;

use super::executor::ExecutorError;
use crate::fileop::FileError;
use crate::llb::VertexId;

/// A step that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct StepFailure {
    /// The step.
    pub vertex: VertexId,
    /// Why.
    #[source]
    pub error: Arc<SolveError>,
}

/// What can go wrong in a step.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum SolveError {
    #[error("process \"{command}\" did not complete successfully: exit code: {exit_code}{}", if *oom_killed { " (killed: out of memory)" } else { "" })]
    Exit { command: String, exit_code: i32, oom_killed: bool },
    #[error("cannot run \"{command}\": {source}")]
    Run {
        command: String,
        #[source]
        source: ExecutorError,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Diff(#[from] ferry_store::DiffError),
    #[error(transparent)]
    Io(#[from] ferry_store::IoError),
    #[error("cannot mount {what}: {reason}")]
    Mount { what: String, reason: String },
    #[error("image {0} is no longer in the store")]
    ImageGone(String),
    #[error("unknown source {0:?}")]
    UnknownSource(String),
    #[error("build context {0:?} was not given")]
    NoFolder(String),
    #[error("secret {0} was not given (--secret id={0},..)")]
    NoSecret(String),
    #[error("ssh agent {0} was not given (--ssh {0})")]
    NoAgent(String),
    #[error("a context folder cannot be the base of a stage that runs commands")]
    FolderAsRoot,
    #[error("cannot download {url}: {reason}")]
    Download { url: String, reason: String },
    #[error("{url} has digest {found}, expected {expected}")]
    Checksum { url: String, found: String, expected: String },
    #[error("a worker thread of the build failed: {0}")]
    Worker(String),
    #[error("input step failed")]
    Input(#[source] Arc<SolveError>),
}
