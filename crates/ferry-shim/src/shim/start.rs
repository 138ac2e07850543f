//! The first moments of a shim: from a launch frame to a running container.
//!
//! Owns the order: own process -> socket -> log -> requests that came ahead -> the container. A failure
//! leaves nothing behind and is told as `StartFailed`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_runtime::CreateRequest;
use ferry_sys::channel::{self, Channel};
use ferry_sys::monitor::{SignalFd, return_freed_memory, set_title};
use rustix::event::PollFlags;
use rustix::process::Signal;

use super::connection::Connection;
use super::exec::Sessions;
use super::oom::OomWatch;
use super::streams::{OutputPolicy, Streams};
use super::{Container, Identity, Shim, Timers};
use crate::clock::{monotonic_ms, now_text};
use crate::log::rotate::Limits;
use crate::log::writer::{LogWriter, WriterConfig};
use crate::poll::PollSet;
use crate::protocol::{
    EXIT_FILE, LaunchConfig, LauncherRequest, LogConfig, SHIM_SOCKET, ShimEvent, ShimMessage, decode, encode,
};

/// Docker's exit code for a failure of the daemon's own.
const EXIT_DAEMON: i32 = 125;
/// How long a failed start waits for the engine to take the message.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("malformed launch: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("malformed launch: {0}")]
    Unfit(String),
    #[error("cannot {action} {path}: {source}")]
    File { action: &'static str, path: String, source: std::io::Error },
    #[error("cannot set up the monitor: {0}")]
    Monitor(#[from] std::io::Error),
    #[error(transparent)]
    Create(#[from] ferry_runtime::CreateError),
    #[error("the launch was given up")]
    GivenUp,
}

impl StartError {
    fn exit_code(&self) -> i32 {
        match self {
            StartError::Create(error) => error.exit_code(),
            _ => EXIT_DAEMON,
        }
    }
}

/// The whole life of a shim: starts the container of the launch frame and monitors it to its end. The
/// calling process must be single-threaded and the shim's own; `control` is its first connection.
/// Returns the process's exit code.
pub fn run(frame: &[u8], control: OwnedFd) -> i32 {
    let mut control = Some(control);
    match start(frame, &mut control) {
        Ok(mut shim) => {
            shim.serve();
            0
        }
        Err(error) => {
            // Once the shim exists the message has gone out on its connection already.
            if let Some(control) = control {
                report_failure(control, &error);
            }
            1
        }
    }
}

fn start(frame: &[u8], control: &mut Option<OwnedFd>) -> Result<Box<Shim>, StartError> {
    let LauncherRequest::Launch(config) = decode(frame)? else {
        return Err(StartError::Unfit("not a launch".into()));
    };
    let signals = become_monitor(&config.id)?;
    let (streams, stdio) = open_streams(&config)?;
    let request = create_request(&config, stdio)?;
    let mut shim = Box::new(assemble(&config, signals, streams)?);
    if let Some(control) = control.take() {
        shim.connections.push(Connection::new(shim.next_connection, control, true));
        shim.next_connection += 1;
    }
    // Attachments, log followers and pins that were asked for ahead miss nothing.
    let first = shim.connections[0].id;
    shim.handle_connection(first);
    if let Err(error) = shim.start_container(request, &config) {
        shim.fail(&error);
        return Err(error);
    }
    Ok(shim)
}

/// Makes the process its own: name, session, orphans, signals, memory.
fn become_monitor(id: &str) -> Result<SignalFd, StartError> {
    let short: String = id.chars().take(12).collect();
    set_title(&format!("ferry-shim {short}"))?;
    // Fails only for a process that leads its group already, and then it is what we want.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(std::io::Error::from)?;
    return_freed_memory();
    // Signals for the whole session or from an operator's `kill` must not end a monitor.
    let ignored =
        [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::PIPE];
    let numbers: Vec<i32> = ignored.iter().map(|signal| signal.as_raw()).collect();
    ferry_sys::signal::set_mask(ferry_sys::signal::MaskChange::Set, &numbers)
        .map_err(std::io::Error::from)?;
    Ok(SignalFd::new(&[Signal::CHILD.as_raw()])?)
}

fn open_streams(config: &LaunchConfig) -> Result<(Streams, ferry_runtime::Stdio), StartError> {
    let policy = match (&config.log, config.terminal) {
        (LogConfig::None, _) => OutputPolicy::Attached,
        (LogConfig::JsonFile { .. }, Some(_)) => OutputPolicy::LoggedWithBackPressure,
        (LogConfig::JsonFile { .. }, None) => OutputPolicy::Logged,
    };
    Ok(Streams::new(config.terminal, config.open_stdin, config.stdin_once, policy)?)
}

fn create_request(config: &LaunchConfig, stdio: ferry_runtime::Stdio) -> Result<CreateRequest, StartError> {
    let seccomp = config.seccomp.as_deref().map(decode_filter).transpose().map_err(StartError::Unfit)?;
    let mut request = CreateRequest::new(&config.id, config.spec.clone(), config.rootfs.clone(), stdio);
    request.seccomp = seccomp;
    request.init = config.init;
    Ok(request)
}

/// A compiled seccomp filter from its text form.
pub(super) fn decode_filter(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text).map_err(|error| format!("seccomp filter is no base64: {error}"))
}

fn assemble(config: &LaunchConfig, signals: SignalFd, streams: Streams) -> Result<Shim, StartError> {
    let log = open_log(&config.log)?;
    let socket_path = config.run_dir.join(SHIM_SOCKET);
    let listener = listen(&config.run_dir, &socket_path)?;
    Ok(Shim {
        identity: Identity {
            id: config.id.clone(),
            generation: config.generation,
            socket_path,
            exit_path: config.data_dir.join(EXIT_FILE),
            durable: config.durable,
        },
        container: None,
        streams,
        log,
        sessions: Sessions::default(),
        signals,
        listener: Some(listener),
        oom: None,
        connections: Vec::new(),
        next_connection: 0,
        exit: None,
        released: false,
        compressor: None,
        scratch: Vec::new(),
        timers: Timers::default(),
        oom_looks: 0,
        breather: false,
        log_trouble: false,
        proceed: None,
    })
}

fn open_log(config: &LogConfig) -> Result<Option<LogWriter>, StartError> {
    let LogConfig::JsonFile { path, max_size, max_file, compress, attrs } = config else { return Ok(None) };
    let limits = Limits { max_size: *max_size, max_file: *max_file, compress: *compress };
    let writer = WriterConfig { path: path.clone(), limits, attrs: attrs.clone() };
    let opened = LogWriter::open(&writer).map_err(|source| StartError::File {
        action: "open the log",
        path: path.display().to_string(),
        source,
    })?;
    Ok(Some(opened))
}

/// Listens in the run directory. A socket found there is a dead shim's: an engine starts a container only
/// after it has made sure that the shim before is gone.
fn listen(run_dir: &Path, socket_path: &Path) -> Result<OwnedFd, StartError> {
    let file =
        |action, path: &Path, source| StartError::File { action, path: path.display().to_string(), source };
    std::fs::create_dir_all(run_dir).map_err(|source| file("create", run_dir, source))?;
    match std::fs::remove_file(socket_path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file("remove", socket_path, error));
        }
        _ => {}
    }
    let listener =
        channel::listen(socket_path, 0o600).map_err(|source| file("listen on", socket_path, source))?;
    let flags = rustix::fs::fcntl_getfl(&listener).map_err(std::io::Error::from)?;
    rustix::fs::fcntl_setfl(&listener, flags | rustix::fs::OFlags::NONBLOCK).map_err(std::io::Error::from)?;
    Ok(listener)
}

impl Shim {
    fn start_container(
        &mut self,
        mut request: CreateRequest,
        config: &LaunchConfig,
    ) -> Result<(), StartError> {
        let seccomp = request.seccomp.clone();
        // The default filter of an exec session is the container's own.
        let from_spec = seccomp.is_none().then(|| request.spec.linux().as_ref()?.seccomp().clone()).flatten();
        if let Some(profile) = from_spec {
            let compiled = ferry_runtime::seccomp::compile(&profile);
            request.seccomp = Some(compiled.map_err(ferry_runtime::CreateError::from)?);
        }
        let seccomp = request.seccomp.clone();
        let process = if config.gated {
            let prepared = ferry_runtime::prepare(request)?;
            self.wait_for_word()?;
            prepared.start()?
        } else {
            ferry_runtime::run(request)?
        };
        let started_at = now_text();
        if let Some(console) = process.console {
            self.streams.set_console(console, config.open_stdin)?;
        }
        self.oom = process.cgroup.as_ref().and_then(|cgroup| OomWatch::new(cgroup).ok());
        let event = ShimEvent::Started {
            pid: process.pid,
            started_at: started_at.clone(),
            warnings: process.warnings.clone(),
        };
        self.container = Some(Container {
            pid: process.pid,
            pidfd: process.pidfd,
            started_at,
            warnings: process.warnings,
            cgroup: process.cgroup,
            rootfs_mount: process.rootfs_mount,
            frozen: false,
            oom_killed: false,
            seccomp,
        });
        self.broadcast(&event);
        // The launch's garbage is given back once the container has got going.
        self.timers.idle = Some(monotonic_ms() + super::IDLE_MS);
        Ok(())
    }

    /// Waits until the engine lets the command run. Only the first connection can: nobody else knows of the launch.
    fn wait_for_word(&mut self) -> Result<(), StartError> {
        loop {
            let Some(first) = self.connections.first() else { return Err(StartError::GivenUp) };
            let id = first.id;
            self.handle_connection(id);
            match self.proceed {
                Some(true) => return Ok(()),
                Some(false) => return Err(StartError::GivenUp),
                None => {}
            }
            let Some(connection) = self.connections.first().filter(|first| !first.is_broken()) else {
                return Err(StartError::GivenUp);
            };
            let mut set = PollSet::new();
            let write = if connection.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            set.add((), connection.socket(), PollFlags::IN | write);
            set.wait(None)?;
        }
    }

    /// Tells why there will be no container, and removes the traces.
    fn fail(&mut self, error: &StartError) {
        self.listener = None;
        self.remove_socket();
        self.broadcast(&ShimEvent::StartFailed { exit_code: error.exit_code(), message: error.to_string() });
        let deadline = Instant::now() + FAREWELL;
        while self.connections.iter().any(|peer| peer.wants_write() && !peer.is_broken())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
            self.connections.iter_mut().for_each(Connection::flush);
        }
    }
}

/// Tells of a failure before there was a connection.
fn report_failure(control: OwnedFd, error: &StartError) {
    let event = ShimEvent::StartFailed { exit_code: error.exit_code(), message: error.to_string() };
    // Nobody else could be told.
    let _ = Channel::from(control).send(&encode(&ShimMessage::Event(event)), &[]);
}
