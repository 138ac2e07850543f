//! What the solver asks of whoever can run processes.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ferry_store::Snapshot;
use tokio::sync::mpsc;

use crate::llb::ops::{HostIp, NetMode};
use crate::lower::Resources;

/// A future that may go from thread to thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A command to run on a snapshot.
#[derive(Debug, Clone)]
pub struct RunStep {
    /// Name of the container and of the snapshot.
    pub id: String,
    /// The root file system; what the command writes stays in `upper`.
    pub snapshot: Snapshot,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Host name; the id's beginning when empty.
    pub hostname: String,
    /// Mounts beside those that every container has.
    pub mounts: Vec<StepMount>,
    /// The network.
    pub network: NetMode,
    /// All privileges of the engine.
    pub privileged: bool,
    /// Lines for /etc/hosts.
    pub extra_hosts: Vec<HostIp>,
    /// Limits.
    pub resources: Resources,
}

/// One mount of a command.
#[derive(Debug, Clone)]
pub struct StepMount {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone)]
pub enum MountKind {
    /// A directory or file of the host that the builder prepared.
    Path {
        /// Where it is.
        source: PathBuf,
        /// Writes are allowed.
        writable: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; the kernel's default when absent.
        size: Option<i64>,
    },
    /// A file with a secret: it must only ever be in memory.
    Secret {
        /// The secret.
        data: Arc<[u8]>,
        /// Permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl std::fmt::Debug for MountKind {
    // Secrets stay out of logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path { source, writable } => {
                write!(formatter, "Path({}, writable: {writable})", source.display())
            }
            Self::Tmpfs { size } => write!(formatter, "Tmpfs({size:?})"),
            Self::Secret { data, .. } => write!(formatter, "Secret({} bytes)", data.len()),
        }
    }
}

/// A piece of a command's output.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// It came on the standard error stream.
    pub is_error: bool,
    /// The bytes.
    pub data: Bytes,
}

/// Where a command's output goes; a full channel holds the command back.
pub type OutputSender = mpsc::Sender<StepOutput>;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOutcome {
    /// Exit code, 128 and the signal's number for a signal.
    pub exit_code: i32,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExecutorError {
    /// What happened.
    pub message: String,
}

impl ExecutorError {
    /// From any error, with its causes.
    pub fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { message }
    }
}

/// Runs the commands of a build with the isolation of `run`.
pub trait Executor: Send + Sync + 'static {
    /// Runs a command to its end. Dropping the future kills it. When it returns, nothing of the
    /// command is left but what it wrote, and its root is mounted nowhere.
    fn run(
        &self,
        step: RunStep,
        output: OutputSender,
    ) -> BoxFuture<'static, Result<RunOutcome, ExecutorError>>;
}
