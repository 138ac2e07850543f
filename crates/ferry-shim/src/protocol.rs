//! The messages between engine, launcher and shim, and the exit record on disk.
//!
//! Owns the wire format: JSON, one message per [`ferry_sys::channel`] frame, enum variants in
//! snake_case. Never does I/O.
//!
//! Shims forked by an old ferry live for months, so: fields are only ever added (readers ignore what
//! they do not know and default what is missing), variants are only ever added, and a receiver answers
//! a variant it does not know with [`error_code::UNKNOWN_REQUEST`] (a shim) or skips it (an engine).
//!
//! ```text
//! engine -> launcher.sock   LauncherRequest   <- LauncherReply      (Launch carries one descriptor:
//!                                                the shim's end of its first control connection)
//! engine -> shim            ShimEnvelope      <- ShimMessage        (that connection, or shim.sock)
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use ferry_oci::runtime;
pub use ferry_runtime::Rootfs;
pub use ferry_runtime::cgroup::Stats;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of every message here and of `exit.json`.
pub const VERSION: u32 = 1;

/// Name of the launcher's socket under the run root.
pub const LAUNCHER_SOCKET: &str = "launcher.sock";
/// Name of a shim's socket under its run directory.
pub const SHIM_SOCKET: &str = "shim.sock";
/// Name of the exit record under a container's data directory.
pub const EXIT_FILE: &str = "exit.json";

/// Asked of the launcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LauncherRequest {
    /// Fork a shim that runs this container. One descriptor comes along.
    Launch(Box<LaunchConfig>),
    /// Are you alive, and which version?
    Ping,
    /// End once asked for by the keeper; shims stay.
    Shutdown,
}

/// The launcher's answers, in the order of the requests of that connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LauncherReply {
    /// The shim runs and will report on the descriptor it was handed.
    Launched {
        /// The shim's process id.
        shim_pid: i32,
    },
    /// The request was understood to be wrong, or fork failed.
    Failed {
        /// What was wrong.
        message: String,
    },
    /// Answer to `Ping`.
    Pong {
        /// [`VERSION`] of the launcher.
        version: u32,
    },
}

/// All that a shim needs to know to run one container once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchConfig {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// The container's full id.
    pub id: String,
    /// The how-manieth start of this container; comes back in the exit record.
    pub generation: u64,
    /// `run root/containers/<id>`: holds `shim.sock`.
    pub run_dir: PathBuf,
    /// `data root/containers/<id>`: holds `exit.json`.
    pub data_dir: PathBuf,
    /// The OCI runtime spec, network namespace and cgroup path included.
    pub spec: runtime::Spec,
    /// What becomes the container's root file system.
    pub rootfs: Rootfs,
    /// Compiled seccomp filter, base64 of the BPF instructions; else `spec.linux.seccomp` is compiled.
    #[serde(default)]
    pub seccomp: Option<String>,
    /// The terminal's first size; `None` means pipes.
    #[serde(default)]
    pub terminal: Option<WindowSize>,
    /// Keep stdin open for attached writers; otherwise it is `/dev/null`.
    #[serde(default)]
    pub open_stdin: bool,
    /// Close stdin when the first attached writer leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where output goes besides attached readers.
    pub log: LogConfig,
    /// fsync the exit record (after telling the engine).
    #[serde(default)]
    pub durable: bool,
    /// Run the command under ferry's own init, which reaps orphans and forwards signals.
    #[serde(default)]
    pub init: bool,
    /// The command waits, all set up, for [`ShimRequest::Proceed`]: what the container needs from elsewhere is
    /// being made meanwhile.
    #[serde(default)]
    pub gated: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogConfig {
    /// Docker's json-file driver.
    JsonFile {
        /// The active file; rotated ones are `path.1`, `path.2`, ..., the highest being the oldest.
        path: PathBuf,
        /// Rotate before the file grows beyond this many bytes.
        #[serde(default)]
        max_size: Option<u64>,
        /// How many files to keep, the active one included.
        #[serde(default = "one")]
        max_file: u32,
        /// gzip rotated files.
        #[serde(default)]
        compress: bool,
        /// The `attrs` member of every line; left out when empty.
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    },
    /// Nothing is kept; attached readers see output with back-pressure.
    None,
}

fn one() -> u32 {
    1
}

/// A request with the number its reply will carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimEnvelope {
    /// Chosen by the sender, echoed by the reply.
    pub seq: u64,
    /// The request.
    pub request: ShimRequest,
}

/// Asked of a shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimRequest {
    /// First message of a later connection; answered by `State`, after which events flow to it too.
    Hello {
        /// [`VERSION`] of the sender.
        version: u32,
    },
    /// Runs another process in the container. One descriptor may come along: an attach stream.
    Exec {
        /// Chosen by the engine, unique in this container.
        exec_id: String,
        /// What to run.
        process: Box<runtime::Process>,
        /// A terminal of this size; `None` means pipes.
        terminal: Option<WindowSize>,
        /// Keep stdin open for the attach stream.
        open_stdin: bool,
        /// Keep output for the attach stream (now or by a later `Attach`); otherwise it is discarded.
        capture: bool,
        /// Compiled seccomp filter as in [`LaunchConfig::seccomp`]; `None` means the container's own.
        #[serde(default)]
        seccomp: Option<String>,
    },
    /// Connects the one descriptor that comes along to a process's streams: the shim writes Docker's
    /// multiplexed frames to it (raw bytes when a terminal) and reads stdin bytes from it; its half-close
    /// is the end of stdin.
    Attach {
        /// An exec session; `None` means the container's first process.
        exec_id: Option<String>,
        /// Feed stdin.
        stdin: bool,
        /// Receive standard output.
        stdout: bool,
        /// Receive standard error.
        stderr: bool,
    },
    /// Sets the terminal's size.
    Resize {
        /// As in `Attach`.
        exec_id: Option<String>,
        /// The new size.
        size: WindowSize,
    },
    /// Ends stdin.
    CloseStdin {
        /// As in `Attach`.
        exec_id: Option<String>,
    },
    /// Sends a signal.
    Signal {
        /// As in `Attach`.
        exec_id: Option<String>,
        /// The signal's number.
        signal: i32,
        /// To every process of the container's cgroup.
        all: bool,
    },
    /// Freezes (true) or thaws the cgroup.
    Freeze(bool),
    /// Changes limits of the running container.
    UpdateResources(Box<runtime::LinuxResources>),
    /// The reply carries a descriptor of the container's root mount.
    Rootfs,
    /// Asks for `LogTick` events whenever the log grew: at most one until the next `LogAck`.
    FollowLog {
        /// On or off.
        on: bool,
    },
    /// The `LogTick` was handled.
    LogAck,
    /// Lets the command of a gated launch run, or gives the launch up. The latter is told as `StartFailed`, as is a
    /// connection that ends before either.
    Proceed {
        /// Run it.
        start: bool,
    },
    /// Rotated files of this log generation and later are kept for a live reader (up to
    /// [`MAX_PINNED_FILES`]); `None` lets go. Gone with the connection.
    PinLog {
        /// The oldest generation still needed; 0 means all that exist now.
        generation: Option<u64>,
    },
    /// The process ids in the container's cgroup.
    Processes,
    /// Resource usage.
    Stats,
    /// The exit was recorded: the shim may tear down and end.
    Release,
}

/// How many rotated log files pinned readers may hold back beyond `max_file`.
///
/// At the default 10 MB a file this is 1 GB; a reader slower than that loses the oldest lines and says so.
pub const MAX_PINNED_FILES: u64 = 100;

/// Sent by a shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimMessage {
    /// Answer to one request.
    Reply {
        /// The request's number.
        seq: u64,
        /// What came of it.
        result: Result<ShimReply, ShimError>,
    },
    /// Something happened.
    Event(ShimEvent),
}

/// What happens in a shim without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimEvent {
    /// The container's program runs.
    Started {
        /// Process id of the container's first process.
        pid: i32,
        /// RFC 3339 with nanoseconds, UTC.
        started_at: String,
        /// What the kernel refused and the start went on without.
        warnings: Vec<String>,
    },
    /// The container's program could not be started; the shim is gone, there is no exit record.
    StartFailed {
        /// 125, 126, 127 or 128 as Docker's.
        exit_code: i32,
        /// Docker's text.
        message: String,
    },
    /// The container's first process ended and its record is on disk.
    Exited(ExitRecord),
    /// An exec session's process ended.
    ExecExited {
        /// The session.
        exec_id: String,
        /// 128+n when signalled.
        exit_code: i32,
    },
    /// The kernel killed a process of the container for lack of memory.
    Oom,
    /// The log cannot be written, or can again. The container runs on either way.
    LogTrouble {
        /// Why not; None when it goes on.
        reason: Option<String>,
        /// What is lost so far, in words.
        #[serde(default)]
        lost: Option<String>,
    },
    /// The log grew since the last acknowledged tick.
    LogTick {
        /// Number of the active log file; grows by one with every rotation.
        #[serde(default)]
        generation: u64,
    },
}

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimReply {
    /// Done.
    Ok,
    /// Answer to `Hello`.
    State(Box<ShimState>),
    /// The exec session's program runs.
    ExecStarted {
        /// Its process id on the host.
        pid: i32,
    },
    /// The root mount's descriptor comes along.
    Rootfs,
    /// Process ids on the host.
    Processes(Vec<i32>),
    /// Resource usage.
    Stats(Box<Stats>),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ShimError {
    /// An exit code of Docker's (125, 126, 127, 128) for a process that could not be started, else one
    /// of [`error_code`].
    pub code: i32,
    /// What was wrong.
    pub message: String,
}

/// Values of [`ShimError::code`] that are no exit codes.
pub mod error_code {
    /// The request is of a newer version than this shim.
    pub const UNKNOWN_REQUEST: i32 = -1;
    /// The request's bytes or descriptors are not what its kind needs.
    pub const MALFORMED: i32 = -2;
    /// No such exec session.
    pub const NOT_FOUND: i32 = -3;
    /// The process or container has ended.
    pub const NOT_RUNNING: i32 = -4;
    /// The exec id is taken, or there are too many sessions.
    pub const CONFLICT: i32 = -5;
    /// The kernel refused.
    pub const SYSTEM: i32 = -6;
    /// The container is frozen: a process that joined it would stop before it runs anything.
    pub const FROZEN: i32 = -7;
}

/// What a shim knows of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The container's full id.
    pub id: String,
    /// From the launch.
    pub generation: u64,
    /// Process id of the container's first process.
    pub pid: i32,
    /// When it started.
    pub started_at: String,
    /// Frozen by `Freeze`.
    #[serde(default)]
    pub frozen: bool,
    /// The kernel has killed a process of the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Set once the container's first process has ended.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    /// Exec sessions, ended ones included (the last [`MAX_ENDED_EXECS`]).
    #[serde(default)]
    pub execs: Vec<ExecState>,
    /// As in `LogTick`.
    #[serde(default)]
    pub log_generation: u64,
    /// The start's warnings.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How many ended exec sessions a shim remembers: health checks must not grow it.
pub const MAX_ENDED_EXECS: usize = 64;
/// How many exec sessions may run at once in one container.
pub const MAX_RUNNING_EXECS: usize = 512;

/// One exec session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// The session.
    pub exec_id: String,
    /// Its process id on the host.
    pub pid: i32,
    /// Not ended yet.
    pub running: bool,
    /// 128+n when signalled.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

/// How a container's run ended: the event and the file `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// From the launch.
    pub generation: u64,
    /// Process id it had.
    pub pid: i32,
    /// 128+n when signalled.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// RFC 3339 with nanoseconds, UTC.
    pub started_at: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub finished_at: String,
    /// What went wrong on the shim's side (a full disk under the log, say).
    #[serde(default)]
    pub error: Option<String>,
}

/// A frame that does not parse.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No number to answer to: the connection is of no use any more.
    #[error("frame of {size} bytes is no request")]
    Envelope {
        /// The frame's length.
        size: usize,
        /// The place in it.
        #[source]
        source: serde_json::Error,
    },
    /// The request is of an unknown kind or its members do not fit; answer `error` to `seq`.
    #[error("request {seq}: {error}")]
    Request {
        /// The number to answer to.
        seq: u64,
        /// The answer.
        error: ShimError,
    },
}

/// Parses a frame into a request, keeping the number to answer to when only the request is unknown.
pub fn decode_request(frame: &[u8]) -> Result<ShimEnvelope, DecodeError> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        seq: u64,
        #[serde(borrow)]
        request: &'a serde_json::value::RawValue,
    }
    let raw: Raw<'_> = serde_json::from_slice(frame)
        .map_err(|source| DecodeError::Envelope { size: frame.len(), source })?;
    match serde_json::from_str(raw.request.get()) {
        Ok(request) => Ok(ShimEnvelope { seq: raw.seq, request }),
        Err(error) => Err(DecodeError::Request { seq: raw.seq, error: refusal(raw.request.get(), &error) }),
    }
}

fn refusal(request: &str, error: &serde_json::Error) -> ShimError {
    let text = error.to_string();
    if text.starts_with("unknown variant") {
        let kind: String = request.chars().filter(|c| !c.is_whitespace()).take(40).collect();
        let message = format!("shim of protocol version {VERSION} does not know the request {kind}");
        return ShimError { code: error_code::UNKNOWN_REQUEST, message };
    }
    ShimError { code: error_code::MALFORMED, message: format!("malformed request: {text}") }
}

/// Parses a frame sent by a shim. `None` for an event or reply of a kind this side does not know.
pub fn decode_message(frame: &[u8]) -> Result<Option<ShimMessage>, serde_json::Error> {
    match serde_json::from_slice(frame) {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.to_string().starts_with("unknown variant") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Serializes any message of this module.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and no failing serializers")
}

/// Parses any message of this module but requests to a shim (see [`decode_request`]).
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(frame)
}

#[cfg(test)]
mod tests;
