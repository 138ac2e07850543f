//! Why a cgroup operation failed.

use std::path::PathBuf;

use crate::error::errno_text;

/// A cgroup operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted under /sys/fs/cgroup")]
    NotMounted,
    /// A limit was asked for whose controller this machine lacks.
    #[error("cannot set {setting}: this machine has no {controller} cgroup controller")]
    NoController {
        /// The setting as the specification names it.
        setting: &'static str,
        /// The controller.
        controller: &'static str,
    },
    /// A path that would leave the hierarchy.
    #[error("invalid cgroup path {path:?}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value the specification does not allow.
    #[error("invalid {setting} {value}: {reason}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The kernel refused a file operation.
    #[error("cannot {action} {}{}: {}", path.display(), value.as_deref().map(|value| format!(" ({value:?})")).unwrap_or_default(), errno_text(*errno))]
    File {
        /// What was tried: `create`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: Option<String>,
        /// The kernel's error number.
        errno: i32,
    },
    /// A file of the kernel does not read as expected.
    #[error("cannot read {}: unexpected content {content:?}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The beginning of what it said.
        content: String,
    },
    /// Processes did not end or freeze in time.
    #[error("cgroup {path} is still {state} after {milliseconds} ms")]
    Timeout {
        /// The cgroup.
        path: String,
        /// `busy`, `thawed`, ...
        state: &'static str,
        /// How long was waited.
        milliseconds: u64,
    },
}
