//! Exec: a further process in a running container.
//!
//! What was asked for is kept in memory until the container ends; what runs and how it ended is known to the
//! monitor, so a later engine still answers for execs it did not start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use ferry_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest, ProcessConfig};
use ferry_api::multiplex::{self, HEADER_LEN, Splitter};
use ferry_runtime::seccomp::SeccompError;
use ferry_shim::protocol::{ExecState, ShimReply, ShimRequest, WindowSize, error_code};
use ferry_store::SnapshotError;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::Container;
use super::attach::{Ended, copy_output, feed_input};
use super::detach_keys::{DetachKeys, InvalidKeys};
use super::name::new_id;
use super::start::{self, StartError};
use super::state::Status;
use super::{signal, stuck};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::server::hijack::{Input, Media, Output};
use crate::shim::{LinkError, ShimLink};
use crate::spec::layered::Layered;
use crate::spec::process::{ProcessPlan, environment, merge};
use crate::spec::security::{self, Security};
use crate::spec::{SpecError, resources};

/// Ended execs remembered per container: health probes must not grow it.
const MAX_ENDED: usize = 64;
/// Bytes reframed at a time.
const REFRAME_PIPE: usize = 32 * 1024;

/// Why an exec was not made or started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such exec.
    #[error("No such exec instance: {0}")]
    NotFound(String),
    /// Nothing to run.
    #[error("No exec command specified")]
    NoCommand,
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The container is frozen.
    #[error("Container {0} is paused, unpause the container before exec")]
    Paused(String),
    /// The container waits for its restart.
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// Started before.
    #[error("Error: Exec command {0} is already running")]
    AlreadyRunning(String),
    /// Ended before.
    #[error("Error: Exec command {0} has already run")]
    AlreadyRan(String),
    /// No process to resize.
    #[error("Exec command {0} is not running")]
    NoProcess(String),
    /// Keys nobody has.
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
    /// Not absolute.
    #[error(
        "OCI runtime exec failed: exec failed: unable to start container process: Cwd must be an absolute path: {0:?}"
    )]
    Directory(String),
    /// Its user.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its settings.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its layers.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its seccomp profile.
    #[error("seccomp profile")]
    Seccomp(#[from] SeccompError),
    /// Random bytes, sockets.
    #[error("prepare an exec")]
    Io(#[from] std::io::Error),
    /// The monitor is gone.
    #[error(transparent)]
    Link(LinkError),
    /// The program could not be started.
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {message}")]
    Program {
        /// 126, 127 or 128.
        exit_code: i32,
        /// Docker's text.
        message: String,
    },
}

impl HttpStatus for ExecError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NoCommand | Self::Keys(_) | Self::Directory(_) => StatusCode::BAD_REQUEST,
            Self::NotRunning(_)
            | Self::Paused(_)
            | Self::Restarting(_)
            | Self::AlreadyRunning(_)
            | Self::AlreadyRan(_)
            | Self::NoProcess(_) => StatusCode::CONFLICT,
            Self::Start(error) => error.status(),
            Self::Spec(error) => error.status(),
            Self::Program { exit_code: 126 | 127, .. } => StatusCode::BAD_REQUEST,
            Self::Program { .. } | Self::Snapshot(_) | Self::Seccomp(_) | Self::Io(_) | Self::Link(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// How far an exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Made.
    Created,
    /// Runs, as this process of the host.
    Running(i32),
    /// Over, with this exit code.
    Ended(i32),
}

/// One exec.
pub struct Exec {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub request: ExecCreateRequest,
    progress: watch::Sender<Progress>,
    ended_at: OnceLock<Instant>,
    failed: AtomicBool,
}

impl Exec {
    /// Notes how it ended; gives what was known before.
    fn end(&self, exit_code: i32) -> Progress {
        self.ended_at.get_or_init(Instant::now);
        self.progress.send_replace(Progress::Ended(exit_code))
    }

    /// Whether its command could not be started.
    pub fn never_started(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }
}

/// The execs of one container.
#[derive(Default)]
pub struct Execs(Mutex<BTreeMap<String, Arc<Exec>>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exec with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Exec>> {
        self.lock().get(id).cloned()
    }

    /// Ids of execs that were not ended yet.
    pub fn ids(&self) -> Vec<String> {
        let ended = |exec: &Exec| matches!(exec.progress(), Progress::Ended(_));
        self.lock().values().filter(|exec| !ended(exec)).map(|exec| exec.id.clone()).collect()
    }

    fn insert(&self, exec: Arc<Exec>) {
        let mut execs = self.lock();
        let mut ended: Vec<(Instant, String)> =
            execs.values().filter_map(|exec| Some((*exec.ended_at.get()?, exec.id.clone()))).collect();
        // Clients ask for the exit code after the end: those that ended last stay.
        ended.sort();
        for (_, id) in &ended[..ended.len().saturating_sub(MAX_ENDED)] {
            execs.remove(id);
        }
        execs.insert(exec.id.clone(), exec);
    }

    /// Takes over what a monitor knows, after this engine took over from another.
    pub fn adopt(&self, states: Vec<ExecState>) {
        for state in states {
            let progress = match (state.running, state.exit_code) {
                (true, _) | (false, None) => Progress::Running(state.pid),
                (false, Some(code)) => Progress::Ended(code),
            };
            let request = ExecCreateRequest::default();
            self.insert(Arc::new(Exec {
                id: state.exec_id,
                request,
                progress: watch::Sender::new(progress),
                ended_at: match progress {
                    Progress::Ended(_) => OnceLock::from(Instant::now()),
                    Progress::Created | Progress::Running(_) => OnceLock::new(),
                },
                failed: AtomicBool::new(false),
            }));
        }
    }
}

/// Finds an exec and its container.
pub fn find(engine: &Engine, id: &str) -> Result<(Arc<Container>, Arc<Exec>), ExecError> {
    let found = engine.containers.all().into_iter().find_map(|container| {
        let exec = container.execs.get(id)?;
        Some((container, exec))
    });
    found.ok_or_else(|| ExecError::NotFound(id.to_owned()))
}

fn check_running(container: &Container) -> Result<ShimLink, ExecError> {
    match container.status() {
        Status::Running => {}
        Status::Paused => return Err(ExecError::Paused(container.id.clone())),
        Status::Restarting => return Err(ExecError::Restarting(container.id.clone())),
        Status::Created | Status::Exited | Status::Dead | Status::Removing => {
            return Err(ExecError::NotRunning(container.id.clone()));
        }
    }
    container.link().ok_or_else(|| ExecError::NotRunning(container.id.clone()))
}

/// `POST /containers/{id}/exec`.
pub fn create(
    engine: &Engine,
    container: &Container,
    request: ExecCreateRequest,
) -> Result<String, ExecError> {
    check_running(container)?;
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ExecError::NoCommand);
    }
    if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
        return Err(ExecError::Directory(request.working_dir));
    }
    DetachKeys::parse(&request.detach_keys)?;
    let id = new_id()?;
    let command = command_text(&request);
    let progress = watch::Sender::new(Progress::Created);
    let exec =
        Exec { id: id.clone(), request, progress, ended_at: OnceLock::new(), failed: AtomicBool::new(false) };
    container.execs.insert(Arc::new(exec));
    emit(engine, container, &id, &format!("exec_create: {command}"));
    Ok(id)
}

fn command_text(request: &ExecCreateRequest) -> String {
    request.cmd.as_deref().unwrap_or_default().join(" ")
}

fn emit(engine: &Engine, container: &Container, exec_id: &str, action: &str) {
    let mut attributes = container.event_attributes();
    attributes.insert("execID".into(), exec_id.to_owned());
    engine.events.emit("container", action, &container.id, attributes);
}

/// An exec that is about to run, with the stream its client will use.
pub struct Session {
    container: Arc<Container>,
    exec: Arc<Exec>,
    stream: Option<UnixStream>,
    keys: Option<DetachKeys>,
}

/// Claims an exec for its one start and runs it.
pub async fn begin(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    start: &ExecStartRequest,
) -> Result<Session, ExecError> {
    let link = check_running(container)?;
    let mut refused = None;
    exec.progress.send_if_modified(|progress| match progress {
        Progress::Created => {
            *progress = Progress::Running(0);
            true
        }
        Progress::Running(_) => {
            refused = Some(ExecError::AlreadyRunning(exec.id.clone()));
            false
        }
        Progress::Ended(_) => {
            refused = Some(ExecError::AlreadyRan(exec.id.clone()));
            false
        }
    });
    if let Some(error) = refused {
        return Err(error);
    }
    let attached = !start.detach
        && (exec.request.attach_stdin || exec.request.attach_stdout || exec.request.attach_stderr);
    match run(engine, container, exec, &link, start, attached).await {
        Ok((pid, stream)) => {
            exec.progress.send_if_modified(|progress| {
                let first = *progress == Progress::Running(0);
                if first {
                    *progress = Progress::Running(pid);
                }
                first
            });
            emit(engine, container, &exec.id, &format!("exec_start: {}", command_text(&exec.request)));
            let keys = exec.request.tty.then(|| DetachKeys::parse(&exec.request.detach_keys)).transpose()?;
            Ok(Session { container: Arc::clone(container), exec: Arc::clone(exec), stream, keys })
        }
        Err(error) => {
            let code = match &error {
                ExecError::Program { exit_code, .. } => *exit_code,
                _ => 126,
            };
            exec.failed.store(true, Ordering::Relaxed);
            exec.end(code);
            Err(error)
        }
    }
}

async fn run(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    link: &ShimLink,
    start: &ExecStartRequest,
    attached: bool,
) -> Result<(i32, Option<UnixStream>), ExecError> {
    let (process, seccomp) = plan(engine, container, &exec.request)?;
    let (ours, fds) = if attached {
        let (ours, theirs) = UnixStream::pair()?;
        (Some(ours), vec![theirs.into_std()?.into()])
    } else {
        (None, Vec::new())
    };
    let size = start.console_size.or(exec.request.console_size).unwrap_or([0, 0]);
    let [rows, cols] = size.map(|size| u16::try_from(size).unwrap_or(0));
    let request = ShimRequest::Exec {
        exec_id: exec.id.clone(),
        process: Box::new(process),
        terminal: exec.request.tty.then_some(WindowSize { rows, cols }),
        open_stdin: attached && exec.request.attach_stdin,
        capture: attached && (exec.request.attach_stdout || exec.request.attach_stderr),
        seccomp,
    };
    match stuck::answered(container, link.ask(request, fds)).await {
        Ok(reply) => match reply.reply {
            ShimReply::ExecStarted { pid } => Ok((pid, ours)),
            _ => Err(ExecError::Link(LinkError::Confused)),
        },
        Err(LinkError::Refused(error)) if error.code == error_code::FROZEN => {
            Err(ExecError::Paused(container.id.clone()))
        }
        Err(LinkError::Refused(error)) => {
            Err(ExecError::Program { exit_code: error.code, message: error.message })
        }
        Err(error) => {
            // A monitor that goes on later starts nothing that nobody waits for any more.
            let exec_id = Some(exec.id.clone());
            link.tell(ShimRequest::Signal { exec_id, signal: signal::KILL, all: false }, Vec::new());
            Err(ExecError::Link(error))
        }
    }
}

/// The process of an exec: the container's settings, with what the exec says over them.
fn plan(
    engine: &Engine,
    container: &Container,
    request: &ExecCreateRequest,
) -> Result<(ferry_oci::runtime::Process, Option<String>), ExecError> {
    let record = container.record();
    let (config, host_config) = (&record.config, &record.host_config);
    let snapshot = engine.store.snapshots().get(&container.id)?;
    let mut layers = vec![snapshot.upper];
    layers.extend(snapshot.lowers);
    let user = if request.user.is_empty() { &config.user } else { &request.user };
    let group_add = host_config.group_add.as_deref().unwrap_or_default();
    let identity = start::account(user, group_add, &Layered::new(layers))?;
    let security =
        Security::parse(host_config.security_opt.as_deref().unwrap_or_default()).map_err(SpecError::from)?;
    let privileged = request.privileged || host_config.privileged;
    let capabilities = security::capabilities(
        host_config.cap_add.as_deref().unwrap_or_default(),
        host_config.cap_drop.as_deref().unwrap_or_default(),
        privileged,
        engine.host.capabilities,
    )
    .map_err(SpecError::from)?;
    let mut variables = environment(config, request.tty, &identity.home);
    merge(&mut variables, request.env.iter().flatten());
    let seccomp = match privileged {
        true => None,
        false => engine.seccomp.filter(&security.seccomp, &capabilities)?,
    };
    let directory = if request.working_dir.is_empty() { &config.working_dir } else { &request.working_dir };
    let plan = ProcessPlan {
        argv: request.cmd.clone().unwrap_or_default(),
        identity: &identity,
        terminal: request.tty,
        directory,
        environment: variables,
        capabilities,
    };
    let process = plan
        .build(host_config, &security)
        .map_err(|error: resources::ResourceError| SpecError::from(error))?;
    Ok((process, seccomp.map(|filter| filter.to_string())))
}

impl Session {
    /// As `serve`, written as the client reads it.
    pub async fn serve_as(self, media: Media, engine: Arc<Engine>, input: Input, output: Output) {
        let made = if self.exec.request.tty { Media::Raw } else { Media::Multiplexed };
        let output = if made == media { output } else { reframed(output, media) };
        self.serve(engine, input, output).await;
    }

    /// Moves bytes until the exec is over or its client lets go.
    pub async fn serve(self, engine: Arc<Engine>, input: Input, mut output: Output) {
        let Self { container, exec, stream, keys } = self;
        let mut progress = exec.progress.subscribe();
        let over = async {
            // The sender lives in `exec`.
            let _ = progress.wait_for(|progress| matches!(progress, Progress::Ended(_))).await;
        };
        let Some(stream) = stream else { return };
        let (read, write) = stream.into_split();
        let ended = {
            let stdin = feed_input(input, Some(write).filter(|_| exec.request.attach_stdin), keys);
            let outputs = async {
                if let Err(error) = copy_output(read, &mut output, std::future::pending()).await {
                    tracing::debug!(exec = %exec.id, %error, "an exec's client left");
                }
                // Clients ask for the exit code as soon as their stream ends.
                over.await;
            };
            tokio::pin!(stdin, outputs);
            tokio::select! {
                () = &mut outputs => Ended::Over,
                ended = &mut stdin => {
                    if ended == Ended::Over {
                        outputs.await;
                    }
                    ended
                }
            }
        };
        if ended == Ended::Detached {
            emit(&engine, &container, &exec.id, "exec_detach");
        }
        // The client may be gone already.
        let _ = output.shutdown().await;
    }

    /// Waits for the end of an exec that nobody is attached to.
    pub async fn wait(&self) -> i32 {
        let mut progress = self.exec.progress.subscribe();
        let ended = progress.wait_for(|progress| matches!(progress, Progress::Ended(_))).await;
        match ended.map(|progress| *progress) {
            Ok(Progress::Ended(code)) => code,
            Ok(Progress::Created | Progress::Running(_)) | Err(_) => -1,
        }
    }
}

/// Writes what comes in the one way in the other.
fn reframed(mut output: Output, wanted: Media) -> Output {
    let (mut raw, theirs) = tokio::io::simplex(REFRAME_PIPE);
    tokio::spawn(async move {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; REFRAME_PIPE];
        while let Ok(count @ 1..) = raw.read(&mut buffer).await {
            let mut bytes = Vec::with_capacity(count + HEADER_LEN);
            match wanted {
                Media::Multiplexed => {
                    multiplex::encode(multiplex::Stream::Stdout, &buffer[..count], &mut bytes)
                }
                Media::Raw => {
                    if splitter.feed(&buffer[..count], |_, piece| bytes.extend_from_slice(piece)).is_err() {
                        break;
                    }
                }
            }
            if output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
                break;
            }
        }
        // The client may be gone already.
        let _ = output.shutdown().await;
    });
    Box::new(theirs)
}

/// Tells the client of an exec that could not be started, the way Docker does: in the stream, so that the
/// client goes on to ask for the exit code.
pub async fn serve_failure(error: ExecError, terminal: bool, mut output: Output) {
    let text = format!("{}\r\n", crate::error::error_chain(&error));
    let mut bytes = Vec::new();
    match terminal {
        true => bytes.extend_from_slice(text.as_bytes()),
        false => multiplex::encode(multiplex::Stream::Stdout, text.as_bytes(), &mut bytes),
    }
    // The client may be gone already.
    let _ = output.write_all(&bytes).await;
    let _ = output.shutdown().await;
}

/// The monitor says that an exec ended.
pub fn ended(engine: &Engine, container: &Container, exec_id: &str, exit_code: i32) {
    let Some(exec) = container.execs.get(exec_id) else { return };
    let before = exec.end(exit_code);
    if matches!(before, Progress::Ended(_)) {
        return;
    }
    let mut attributes = container.event_attributes();
    attributes.insert("execID".into(), exec_id.to_owned());
    attributes.insert("exitCode".into(), exit_code.to_string());
    engine.events.emit("container", "exec_die", &container.id, attributes);
}

/// The container ended and its execs with it.
pub fn container_ended(engine: &Engine, container: &Container) {
    for id in container.execs.ids() {
        ended(engine, container, &id, super::signal::KILL + 128);
    }
}

/// `POST /exec/{id}/resize`.
pub async fn resize(container: &Container, exec: &Exec, size: WindowSize) -> Result<(), ExecError> {
    let Progress::Running(_) = exec.progress() else {
        return Err(ExecError::NoProcess(exec.id.clone()));
    };
    let link = check_running(container)?;
    stuck::answered(container, link.resize(Some(exec.id.clone()), size)).await.map_err(ExecError::Link)
}

/// `GET /exec/{id}/json`.
pub fn inspect(container: &Container, exec: &Exec) -> ExecInspect {
    let request = &exec.request;
    let (running, exit_code, pid) = match exec.progress() {
        Progress::Created => (false, None, 0),
        Progress::Running(pid) => (true, None, pid),
        Progress::Ended(code) => (false, Some(i64::from(code)), 0),
    };
    let mut command = request.cmd.clone().unwrap_or_default().into_iter();
    ExecInspect {
        id: exec.id.clone(),
        running,
        exit_code,
        process_config: ProcessConfig {
            tty: request.tty,
            entrypoint: command.next().unwrap_or_default(),
            arguments: command.collect(),
            privileged: Some(request.privileged),
            user: request.user.clone(),
        },
        open_stdin: request.attach_stdin,
        open_stderr: request.attach_stderr,
        open_stdout: request.attach_stdout,
        can_remove: !running && exit_code.is_some(),
        container_id: container.id.clone(),
        detach_keys: request.detach_keys.clone(),
        pid: i64::from(pid),
    }
}
