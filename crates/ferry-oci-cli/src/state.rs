//! State directories: what is known of a container between two calls.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ferry_oci::runtime::Spec;
use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::hooks::Described;
use ferry_runtime::resctrl::Class;
use ferry_runtime::systemd::Scope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::CliError;
use crate::holdings::Holdings;
use crate::identifier;
use crate::process_stat::ProcessStat;

const STATE_FILE: &str = "state.json";
const GATE: &str = "start.sock";
/// Format of the state file.
const VERSION: u32 = 1;

/// What is kept of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub version: u32,
    pub id: String,
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    pub init_process_pid: i32,
    pub init_process_start: u64,
    pub created: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub cgroup_path: Option<String>,
    /// The cgroup is one of systemd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The class of cache and memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The bundle's configuration as it was when the container was made.
    pub config: Box<RawValue>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's state directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Takes a name.
    pub fn make(root: &Path, id: &str) -> Result<Directory, CliError> {
        identifier::check(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o711);
        let path = root.join(id);
        match builder.create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(CliError::Exists),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o711)
                    .create(root)
                    .map_err(CliError::file("create", root))?;
                return match builder.create(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(CliError::Exists),
                    result => result
                        .map(|()| Directory { path: path.clone() })
                        .map_err(CliError::file("create", &path)),
                };
            }
            Err(error) => return Err(CliError::file("create", &path)(error)),
        }
        Ok(Directory { path })
    }

    /// An existing one.
    pub fn open(root: &Path, id: &str) -> Result<Directory, CliError> {
        identifier::check(id)?;
        let path = root.join(id);
        if path.is_dir() { Ok(Directory { path }) } else { Err(CliError::NoContainer) }
    }

    pub fn write(&self, state: &State) -> Result<(), CliError> {
        let path = self.path.join(STATE_FILE);
        let whole = serde_json::to_vec(state)
            .map_err(|source| CliError::Json { path: path.display().to_string(), source })?;
        write_whole(&path, &whole, 0o600)
    }

    pub fn read(&self) -> Result<State, CliError> {
        let path = self.path.join(STATE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Its maker has not got so far, or died on the way.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(CliError::NoContainer),
            Err(error) => return Err(CliError::file("read", &path)(error)),
        };
        let state: State = serde_json::from_str(&text)
            .map_err(|source| CliError::Json { path: path.display().to_string(), source })?;
        match state.version {
            VERSION => Ok(state),
            other => Err(CliError::other(format!("{}: format {other} is not known", path.display()))),
        }
    }

    /// Where the waiting init listens.
    pub fn gate(&self) -> PathBuf {
        self.path.join(GATE)
    }

    /// Who made it.
    pub fn owner(&self) -> u32 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.uid())
    }

    /// Gives the name back.
    pub fn remove(&self) -> Result<(), CliError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CliError::file("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    pub fn status(&self, state: &State) -> Result<Status, CliError> {
        if !state.init_lives() {
            return Ok(Status::Stopped);
        }
        if self.gate().exists() {
            return Ok(Status::Created);
        }
        match state.cgroup()? {
            Some(cgroup) if cgroup.is_frozen()? => Ok(Status::Paused),
            _ => Ok(Status::Running),
        }
    }
}

impl State {
    pub const VERSION: u32 = VERSION;

    pub fn init_lives(&self) -> bool {
        let found = ProcessStat::of(self.init_process_pid);
        found.is_some_and(|found| found.start_time == self.init_process_start && !found.has_ended())
    }

    pub fn cgroup(&self) -> Result<Option<Cgroup>, CliError> {
        Ok(self.cgroup_path.as_deref().map(Cgroup::open).transpose()?)
    }

    /// What goes with the container.
    pub fn holdings(&self) -> Result<Holdings, CliError> {
        Ok(Holdings { cgroup: self.cgroup()?, scope: self.scope.clone(), class: self.class.clone() })
    }

    pub fn spec(&self) -> Result<Spec, CliError> {
        serde_json::from_str(self.config.get())
            .map_err(|source| CliError::Json { path: STATE_FILE.to_owned(), source })
    }

    pub fn described(&self) -> Described {
        Described {
            version: self.oci_version.clone(),
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error on its way says more than one from here would.
        drop(std::fs::remove_file(&temporary));
        CliError::file("write", path)(error)
    })
}
