//! Why containers do not start, with the exit codes and statuses that clients know.

use std::path::PathBuf;

use ferry_runtime::seccomp::SeccompError;
use ferry_store::{IoError, SnapshotError};
use http::StatusCode;

use super::LAST_RUN_PATIENCE;
use crate::container::settings::SettingsError;
use crate::container::state::Refused;
use crate::error::HttpStatus;
use crate::network::NetworkError;
use crate::shim::LaunchError;
use crate::spec::SpecError;
use crate::spec::layered::LayeredError;
use crate::spec::user::UserError;
use crate::volume::MountError;

/// Exit code recorded when a start failed before the program could be tried.
const EXIT_NOT_STARTED: i32 = 128;

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is frozen.
    #[error("cannot start a paused container, try unpause instead")]
    Paused,
    /// It is going away.
    #[error("container is marked for removal and cannot be started")]
    Removing,
    /// It changed meanwhile.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A container whose namespace it shares does not run.
    #[error("cannot join {kind} of a non running container: {name}")]
    PeerNotRunning {
        /// `PID` or `IPC`.
        kind: &'static str,
        /// As given.
        name: String,
    },
    /// A bind mount's source that is gone.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    NoSource(String),
    /// A bind mount's source that cannot be made.
    #[error("error while creating mount source path '{path}'")]
    MakeSource {
        /// Path on the host.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A volume with driver options cannot be mounted.
    #[error(transparent)]
    Volume(#[from] MountError),
    /// Its secrets and configs.
    #[error(transparent)]
    Secrets(#[from] crate::secrets::PlaceError),
    /// Its user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The image's account files.
    #[error(transparent)]
    Accounts(#[from] LayeredError),
    /// Its settings.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its log settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its seccomp profile.
    #[error("seccomp profile")]
    Seccomp(#[from] SeccompError),
    /// Its layers.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its files.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Its files under `/etc`, or its run directory.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No monitor.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No connection to the monitor.
    #[error("connect to the container's monitor")]
    Link(#[source] std::io::Error),
    /// The run before still has the container's files and cgroup.
    #[error(
        "the container's last run has ended, but after {} s its files are still being written to disk; \
         try again when the disk is less busy",
        LAST_RUN_PATIENCE.as_secs()
    )]
    LastRunLingers,
    /// The monitor ended before it said anything.
    #[error("the container's monitor ended before it started the container")]
    MonitorLost,
    /// The program could not be started.
    #[error("failed to create task for container: unable to start container process: {message}")]
    Program {
        /// 125, 126, 127 or 128.
        exit_code: i32,
        /// Docker's text.
        message: String,
    },
}

impl StartError {
    /// What the record says as exit code of the failed start.
    pub(super) fn exit_code(&self) -> i32 {
        match self {
            Self::Program { exit_code, .. } => *exit_code,
            Self::NoSource(_) => 127,
            _ => EXIT_NOT_STARTED,
        }
    }
}

impl HttpStatus for StartError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Paused | Self::Removing | Self::Refused(_) | Self::PeerNotRunning { .. } => {
                StatusCode::CONFLICT
            }
            Self::Network(error) => error.status(),
            Self::Spec(error) => error.status(),
            Self::NoSource(_) | Self::User(_) | Self::Settings(_) | Self::Seccomp(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Program { exit_code: 126 | 127, .. } => StatusCode::BAD_REQUEST,
            Self::Program { .. }
            | Self::MakeSource { .. }
            | Self::Volume(_)
            | Self::Secrets(_)
            | Self::Accounts(_)
            | Self::Snapshot(_)
            | Self::Io(_)
            | Self::Write { .. }
            | Self::Launch(_)
            | Self::Link(_)
            | Self::LastRunLingers
            | Self::MonitorLost => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
