//! Reaching a keeper from outside: starting one where none is, asking, stopping.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferry_sys::channel::{Channel, ChannelError, connect};

use crate::child::program_on_disk;
use crate::options::KeeperOptions;
use crate::protocol::{KEEPER_SOCKET, KeeperReply, KeeperRequest, KeeperStatus};

/// How long somebody else's start may take before we call it failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why no engine could be reached or started.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// None of the hosts is a unix socket.
    #[error("cannot start an engine for {0:?}: not a unix socket")]
    NoSocket(Vec<String>),
    /// The socket is there but we may not use it.
    #[error("permission denied while connecting to {}", .0.display())]
    Permission(PathBuf),
    /// The program could not be started.
    #[error("cannot start ferry keeper: {0}")]
    Spawn(#[source] io::Error),
    /// The keeper refused to start.
    #[error("{message}")]
    Failed {
        /// What it said.
        message: String,
    },
    /// The socket does not answer though the start succeeded.
    #[error("no engine answers on {}: {source}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The last attempt's error.
        #[source]
        source: io::Error,
    },
}

/// Makes sure that clients can connect; true when a keeper had to be started. Where one runs this is a
/// single connect(2). Requests may be sent at once: they wait in the socket for the engine.
pub fn ensure_running(options: &KeeperOptions) -> Result<bool, EnsureError> {
    let path = options.socket_path().ok_or_else(|| EnsureError::NoSocket(options.hosts.clone()))?;
    match connect(path) {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(EnsureError::Permission(path.to_owned()));
        }
        Err(_) => {}
    }
    let failure = start(options)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(path) {
            Ok(_) => return Ok(true),
            Err(source) => match failure {
                // It may have lost a race against another start, which then is about to listen.
                Some(message) if Instant::now() >= deadline || !lost_race(&message) => {
                    return Err(EnsureError::Failed { message });
                }
                None if Instant::now() >= deadline => {
                    return Err(EnsureError::Unreachable { path: path.to_owned(), source });
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            },
        }
    }
}

/// Runs `ferry keeper`, which returns as soon as its sockets are bound. What it said if it failed.
fn start(options: &KeeperOptions) -> Result<Option<String>, EnsureError> {
    let mut command = Command::new(program_on_disk().unwrap_or_else(|_| "/proc/self/exe".into()));
    command.arg("keeper").args(KeeperOptions { foreground: false, ..options.clone() }.arguments());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    ferry_sys::signal::reset_in_child(&mut command);
    let output = command.output().map_err(EnsureError::Spawn)?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim().strip_prefix("ferry keeper: ").unwrap_or(text.trim());
    Ok(Some(if text.is_empty() { format!("ferry keeper ended with {}", output.status) } else { text.into() }))
}

fn lost_race(message: &str) -> bool {
    message.contains("already runs for")
}

/// Why a question to the keeper was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No keeper listens there.
    #[error("no ferry runs for {}", .0.display())]
    NotRunning(PathBuf),
    /// The conversation broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The keeper refused, or answered something else.
    #[error("{0}")]
    Refused(String),
}

/// The processes of a run root.
pub fn status(run_root: &Path) -> Result<KeeperStatus, AskError> {
    match ask(&mut open(run_root)?, &KeeperRequest::Status)? {
        KeeperReply::Status(status) => Ok(status),
        other => Err(AskError::Refused(format!("unexpected answer {other:?}"))),
    }
}

/// Ends engine, launcher and keeper, and waits for that. Containers go on.
pub fn stop(run_root: &Path, timeout: Duration) -> Result<(), AskError> {
    let mut channel = open(run_root)?;
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    ask(&mut channel, &KeeperRequest::StopAll { timeout_ms })?;
    match channel.recv() {
        Err(ChannelError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(AskError::Refused("the keeper went on talking".into())),
    }
}

/// Lets the keeper start the engine anew from the program on disk.
pub fn restart_engine(run_root: &Path) -> Result<(), AskError> {
    ask(&mut open(run_root)?, &KeeperRequest::RestartEngine).map(|_| ())
}

fn open(run_root: &Path) -> Result<Channel, AskError> {
    Channel::connect(&run_root.join(KEEPER_SOCKET)).map_err(|_| AskError::NotRunning(run_root.to_owned()))
}

fn ask(channel: &mut Channel, request: &KeeperRequest) -> Result<KeeperReply, AskError> {
    channel.send(&ferry_shim::protocol::encode(request), &[])?;
    let (frame, _) = channel.recv()?;
    match serde_json::from_slice(&frame) {
        Ok(KeeperReply::Failed { message }) => Err(AskError::Refused(message)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(AskError::Refused(format!("malformed answer: {error}"))),
    }
}
