//! Errors of `run` and `exec`, and the exit codes Docker gives for them.
//!
//! Owns texts that Docker's clients look for (`executable file not found in $PATH`, ...).

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupError;
use crate::create::Step;
use crate::hooks::HookError;
use crate::resctrl::ResctrlError;
use crate::seccomp::SeccompError;
use crate::systemd::SystemdError;

/// Docker's exit code for a command that does not exist.
const EXIT_NOT_FOUND: i32 = 127;
/// Docker's exit code for a command that exists but cannot be run.
const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Docker's exit code for every other failure to start.
const EXIT_NOT_STARTED: i32 = 128;

/// Why a container could not be started. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The specification asks for something impossible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The cgroup could not be made or limited.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// systemd would not make the cgroup.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The class of cache and memory bandwidth could not be made or joined.
    #[error(transparent)]
    Resctrl(#[from] ResctrlError),
    /// The seccomp profile could not be compiled.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A step of the start failed in the kernel.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The container's command cannot be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The container's init ended before its command ran.
    #[error(transparent)]
    Ended(#[from] EndedError),
    /// A hook of the specification failed.
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl CreateError {
    /// The exit code Docker records for a container that failed so.
    pub fn exit_code(&self) -> i32 {
        match self {
            CreateError::Command(error) => error.exit_code(),
            CreateError::Step(error) => error.exit_code(),
            CreateError::Spec(_)
            | CreateError::Cgroup(_)
            | CreateError::Systemd(_)
            | CreateError::Resctrl(_)
            | CreateError::Seccomp(_)
            | CreateError::Hook(_)
            | CreateError::Ended(_) => EXIT_NOT_STARTED,
        }
    }
}

/// Why a process could not be started in a running container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The process description asks for something impossible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The container's cgroup could not be joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The seccomp profile could not be compiled.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A step failed in the kernel.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The command cannot be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The process ended before its command ran.
    #[error(transparent)]
    Ended(#[from] EndedError),
}

impl ExecError {
    /// The exit code Docker records for an exec that failed so.
    pub fn exit_code(&self) -> i32 {
        match self {
            ExecError::Command(error) => error.exit_code(),
            ExecError::Step(error) => error.exit_code(),
            ExecError::Spec(_)
            | ExecError::Cgroup(_)
            | ExecError::Seccomp(_)
            | ExecError::Hook(_)
            | ExecError::Ended(_) => EXIT_NOT_STARTED,
        }
    }
}

/// A process ended while it was being set up, without a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndedError {
    /// By SIGKILL, which is also the kernel's way when memory is out.
    #[error("the process was killed during set-up (memory limit too low?)")]
    Killed,
    /// By another signal.
    #[error("the process was ended by signal {signal} during set-up")]
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// By itself.
    #[error("the process ended with code {code} during set-up")]
    Exited {
        /// Its exit code.
        code: i32,
    },
}

/// A value of the specification that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field} {value:?}: {reason}")]
pub struct SpecError {
    /// The field, as its path in the OCI runtime specification.
    pub field: String,
    /// The value found there.
    pub value: String,
    /// Why it is refused.
    pub reason: String,
}

impl SpecError {
    pub(crate) fn new(
        field: impl Into<String>,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> SpecError {
        SpecError { field: field.into(), value: value.to_string(), reason: reason.into() }
    }
}

/// A step of a start that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("cannot {step} {value}: {}", errno_text(*errno))]
pub struct StepError {
    /// The step.
    pub step: Step,
    /// What the step was about: a path, a name, a number.
    pub value: String,
    /// The kernel's error number.
    pub errno: i32,
}

/// How much of a value a message shows; the message has to fit a report from init.
const SHOWN_MAX: usize = 2048;

/// A value short enough for a message.
pub(crate) fn shorten(mut value: String) -> String {
    if value.len() > SHOWN_MAX {
        value.truncate(value.floor_char_boundary(SHOWN_MAX));
        value.push_str("...");
    }
    value
}

impl StepError {
    pub(crate) fn new(step: Step, value: impl ToString, errno: rustix::io::Errno) -> StepError {
        StepError { step, value: shorten(value.to_string()), errno: errno.raw_os_error() }
    }

    fn exit_code(&self) -> i32 {
        // Docker calls a working directory or mount target that is a file "cannot be invoked".
        if self.errno == rustix::io::Errno::NOTDIR.raw_os_error() {
            EXIT_NOT_EXECUTABLE
        } else {
            EXIT_NOT_STARTED
        }
    }
}

/// The kernel's text for an error number, in Docker's lower-case spelling.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        // "No such file" becomes "no such file", but "RFS ..." style acronyms stay.
        Some(first) if !text.chars().nth(1).is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

/// The command of a container or exec cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CommandError {
    /// A name without slash that no directory of PATH has.
    #[error("exec: {name:?}: executable file not found in $PATH")]
    NotInPath {
        /// The name looked for.
        name: String,
    },
    /// A path that does not exist.
    #[error("exec: {path:?}: stat {path}: no such file or directory")]
    NotFound {
        /// The path.
        path: String,
    },
    /// A file without execute permission.
    #[error("exec: {path:?}: permission denied")]
    NotExecutable {
        /// The path.
        path: String,
    },
    /// A directory.
    #[error("exec: {path:?}: is a directory")]
    IsDirectory {
        /// The path.
        path: String,
    },
    /// The file is there, but the interpreter its first line or its ELF header names is not.
    #[error("exec {path}: no such file or directory: its interpreter {interpreter:?} does not exist in the image{}", if *.carriage_return { " (the script has Windows line ends)" } else { "" })]
    InterpreterMissing {
        /// The file.
        path: String,
        /// What it asks for.
        interpreter: String,
        /// The first line ends in CR LF.
        carriage_return: bool,
    },
    /// Neither a program nor a script with a first line.
    #[error("exec {path}: exec format error: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Any other refusal of the kernel.
    #[error("exec {path}: {}", errno_text(*errno))]
    Exec {
        /// The file.
        path: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The working directory cannot be entered.
    #[error("chdir to cwd ({path:?}) set in config.json failed: {}", errno_text(*errno))]
    WorkingDirectory {
        /// The directory.
        path: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The working directory lies outside the container's root.
    #[error(
        "current working directory is outside of container mount namespace root -- possible container breakout detected"
    )]
    WorkingDirectoryOutside,
}

impl CommandError {
    /// Docker's exit code for this error.
    pub fn exit_code(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            CommandError::NotInPath { .. }
            | CommandError::NotFound { .. }
            | CommandError::InterpreterMissing { .. } => EXIT_NOT_FOUND,
            CommandError::NotExecutable { .. }
            | CommandError::IsDirectory { .. }
            | CommandError::Format { .. } => EXIT_NOT_EXECUTABLE,
            CommandError::Exec { errno, .. } | CommandError::WorkingDirectory { errno, .. } => {
                match Errno::from_raw_os_error(*errno) {
                    Errno::NOENT => EXIT_NOT_FOUND,
                    Errno::ACCESS | Errno::PERM | Errno::NOTDIR | Errno::ISDIR | Errno::NOEXEC => {
                        EXIT_NOT_EXECUTABLE
                    }
                    _ => EXIT_NOT_STARTED,
                }
            }
            CommandError::WorkingDirectoryOutside => EXIT_NOT_STARTED,
        }
    }
}
