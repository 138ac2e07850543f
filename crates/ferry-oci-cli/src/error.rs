//! Why a command failed, in the words that callers of runc look for.

use ferry_runtime::cgroup::CgroupError;
use ferry_runtime::hooks::HookError;
use ferry_runtime::{CreateError, ExecError};

/// The exit code of everything that fails in the runtime itself.
const EXIT_FAILED: i32 = 1;
/// The exit code of an exec whose process could not be started, which tells it from the process's own.
const EXIT_EXEC_FAILED: i32 = 255;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Flags or arguments that mean nothing.
    #[error("{0}")]
    Usage(String),
    /// No state directory of this name.
    #[error("container does not exist")]
    NoContainer,
    /// The name is taken.
    #[error("container with given ID already exists")]
    Exists,
    /// The container is in another state than the command needs.
    #[error("{0}")]
    State(String),
    /// A file of the caller's or of ours.
    #[error("{what} {path}: {source}")]
    File { what: &'static str, path: String, source: std::io::Error },
    /// `config.json`, `process.json` or a set of limits that does not read.
    #[error("{path}: {source}")]
    Json { path: String, source: serde_json::Error },
    /// Making or starting a container.
    #[error("unable to start container process: {0}")]
    Create(#[from] CreateError),
    /// Running a further process.
    #[error("unable to start container process: {0}")]
    Exec(#[from] ExecError),
    /// Any of these, where callers want to read what was tried.
    #[error("{what} failed: {source}")]
    Failed { what: String, code: i32, source: Box<CliError> },
    /// A cgroup's files.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A hook after the start or after the end.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl CliError {
    pub fn usage(text: impl Into<String>) -> CliError {
        CliError::Usage(text.into())
    }

    pub fn other(text: impl Into<String>) -> CliError {
        CliError::Other(text.into())
    }

    pub fn file(
        what: &'static str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(std::io::Error) -> CliError {
        let path = path.as_ref().display().to_string();
        move |source| CliError::File { what, path, source }
    }

    /// Says before the reason that `what` was tried.
    pub fn in_command(self, what: String) -> CliError {
        let code = if matches!(what.as_str(), "exec") { EXIT_EXEC_FAILED } else { EXIT_FAILED };
        match self {
            CliError::Usage(_) => self,
            source => CliError::Failed { what, code, source: Box::new(source) },
        }
    }

    pub fn code(&self) -> i32 {
        match self {
            CliError::Failed { code, .. } => *code,
            _ => EXIT_FAILED,
        }
    }
}
