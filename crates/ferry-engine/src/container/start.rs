//! Starting: from a record to a running process, through the launcher.
//!
//! Nothing global is locked while a start is under way, and nothing is fsynced: the monitor's exit record and
//! its `Hello` tell a later engine all that this one had not yet written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferry_runtime::seccomp::SeccompError;
use ferry_shim::protocol::{LaunchConfig, LogConfig, Rootfs, ShimEvent, ShimRequest, VERSION, WindowSize};
use ferry_store::{IoError, SnapshotError};
use http::StatusCode;
use tokio::sync::mpsc;

use super::Container;
use super::attach::AttachOrder;
use super::etc;
use super::record::Record;
use super::settings::SettingsError;
use super::state::{Change, Refused, Status};
use super::supervise;
use super::{logging, remove};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::network::{self, Attachment, NetworkError};
use crate::shim::{LaunchError, ShimLink};
use crate::spec::layered::{Layered, LayeredError};
use crate::spec::mounts::MountKind;
use crate::spec::namespaces::{Mode, Namespaces, Sharing, ipc_mode, pid_mode};
use crate::spec::user::{self, Identity, UserError};
use crate::spec::{self, SpecError, SpecInput};
use crate::volume::{self, MountError};

/// Largest `/etc/passwd` or `/etc/group` read from an image.
const MAX_ACCOUNTS: u64 = 16 * 1024 * 1024;
/// Exit code recorded when a start failed before the program could be tried.
const EXIT_NOT_STARTED: i32 = 128;

/// How long the run before may take to write its files back and leave its cgroup.
const LAST_RUN_PATIENCE: Duration = Duration::from_secs(120);

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
    fn exit_code(&self) -> i32 {
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

/// What a start came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    Now,
    /// It ran already.
    Already,
}

/// A monitor that was told of its container, and what it reports.
type Launched = (ShimLink, mpsc::UnboundedReceiver<ShimEvent>);

/// Who asked for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: policies begin anew.
    Person,
    /// The restart policy.
    Policy,
}

/// Starts a container for a client.
pub async fn start(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Started, StartError> {
    let _lifecycle = container.lifecycle.lock().await;
    match container.status() {
        Status::Running => return Ok(Started::Already),
        Status::Paused => return Err(StartError::Paused),
        Status::Removing => return Err(StartError::Removing),
        Status::Created | Status::Exited | Status::Dead | Status::Restarting => {}
    }
    if container.lock().removed {
        return Err(StartError::Removing);
    }
    container.cancel_restart();
    start_locked(engine, container, Origin::Person).await
}

/// Starts a container whose lifecycle lock the caller holds.
pub async fn start_locked(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    origin: Origin,
) -> Result<Started, StartError> {
    let attempt = try_start(engine, container, origin).await;
    container.lock().ports_come_later = false;
    if let Err(error) = &attempt {
        fail(engine, container, error).await;
    }
    attempt.map(|()| Started::Now)
}

async fn try_start(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    origin: Origin,
) -> Result<(), StartError> {
    let spare = spare_attaches(container)?;
    match start_once(engine, container, origin).await {
        Err(error) if lost_its_network(container, &error) => {
            tracing::debug!(container = %container.id, %error, "started once more");
            container.lock().waiting_attaches = spare;
            start_once(engine, container, origin).await
        }
        outcome => outcome,
    }
}

/// Whether the network service died meanwhile. The next one, which is there at once, takes back what this one made.
fn lost_its_network(container: &Container, error: &StartError) -> bool {
    match error {
        StartError::Network(error) => error.is_lost_service(),
        // The service's descriptor keeps a namespace that no process has joined yet.
        StartError::Program { .. } => {
            let namespace = container.lock().record.state.sandbox_key.clone();
            !namespace.is_empty() && !Path::new(&namespace).exists()
        }
        _ => false,
    }
}

async fn start_once(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    origin: Origin,
) -> Result<(), StartError> {
    let (link, events) = wire_and_launch(engine, container).await?;
    await_program(engine, container, origin, link, events).await
}

/// Wires it to its networks while its monitor prepares all but the program, which then begins.
async fn wire_and_launch(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Launched, StartError> {
    let mut joining = network::begin(engine, container).await?;
    if joining.is_under_way() && needs_interfaces(&container.record()) {
        joining = joining.done().await?.into();
    }
    if !joining.is_under_way() {
        note_network(container, &joining.attachment);
        return launch(engine, container, &joining.attachment, false).await;
    }
    let launched = launch(engine, container, &joining.attachment, true).await;
    // Also after a failure: what is made is taken back when it is made.
    let joined = joining.done().await;
    if let Ok(attachment) = &joined {
        note_network(container, attachment);
    }
    let (link, events) = launched?;
    if let Err(error) = joined {
        give_up(&link, events).await;
        return Err(error.into());
    }
    link.tell(ShimRequest::Proceed { start: true }, Vec::new());
    Ok((link, events))
}

/// The attachments that wait, for a second launch.
fn spare_attaches(container: &Container) -> Result<Vec<AttachOrder>, StartError> {
    let waiting = &container.lock().waiting_attaches;
    waiting.iter().map(AttachOrder::try_clone).collect::<Result<_, _>>().map_err(StartError::Link)
}

/// Settings of the network namespace are made when its interfaces are there.
fn needs_interfaces(record: &Record) -> bool {
    record.host_config.sysctls.keys().any(|key| key.starts_with("net."))
}

/// The program waits in a gated launch, and everything else goes on.
async fn launch(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    attachment: &Attachment,
    gated: bool,
) -> Result<Launched, StartError> {
    let generation = {
        let mut inner = container.lock();
        inner.record.state.generation += 1;
        inner.measured = None;
        inner.record.state.ports_given = false;
        inner.record.state.generation
    };
    hold_volumes(engine, container).await?;
    // Small reads and writes on the disk's cache; a blocking thread costs more than they do.
    let mut launch = prepare(engine, container, attachment, generation)?;
    launch.gated = gated;
    last_run_over(container).await?;
    connect_and_launch(engine, container, launch).await
}

fn note_network(container: &Container, attachment: &Attachment) {
    let mut inner = container.lock();
    if !attachment.endpoints.is_empty() {
        inner.record.endpoints.clone_from(&attachment.endpoints);
    }
    inner.record.state.published.clone_from(&attachment.published);
    inner.record.state.sandbox_key.clone_from(&attachment.sandbox_key);
}

/// Ends a launch whose program waits; returns when nothing of it is left.
async fn give_up(link: &ShimLink, mut events: mpsc::UnboundedReceiver<ShimEvent>) {
    link.tell(ShimRequest::Proceed { start: false }, Vec::new());
    while let Some(event) = events.recv().await {
        if matches!(event, ShimEvent::StartFailed { .. }) {
            return;
        }
    }
}

/// Waits until the monitor of the run before has given back what the next one takes under the same names:
/// cgroup, writable layer, socket. It answers only when it has, or is gone by then.
async fn last_run_over(container: &Container) -> Result<(), StartError> {
    let Some(link) = container.lock().last_link.clone() else { return Ok(()) };
    let given_back = link.ask(ShimRequest::Release, Vec::new());
    let over = tokio::time::timeout(LAST_RUN_PATIENCE, given_back).await;
    over.map_err(|_| StartError::LastRunLingers)?.ok();
    container.lock().last_link = None;
    Ok(())
}

/// Mounts the volumes that are only there while they are used.
async fn hold_volumes(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<(), StartError> {
    let record = container.record();
    if !volume::needs_holds(engine, &record) {
        return Ok(());
    }
    let work = Arc::clone(engine);
    let held = tokio::task::spawn_blocking(move || volume::hold_all(&work, &record)).await;
    container.lock().holds = held.map_err(|error| StartError::Link(std::io::Error::other(error)))??;
    Ok(())
}

/// The connection exists before the monitor does, so that waiting attachments are the first thing it reads.
async fn connect_and_launch(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    launch: LaunchConfig,
) -> Result<Launched, StartError> {
    let (ours, theirs) = ferry_sys::channel::Channel::pair().map_err(StartError::Link)?;
    let (link, events) = ShimLink::start(ours).map_err(StartError::Link)?;
    container.output.connect(&link);
    for order in std::mem::take(&mut container.lock().waiting_attaches) {
        order.submit(&link);
    }
    engine.launcher.launch(launch, theirs.into_fd()).await?;
    Ok((link, events))
}

async fn await_program(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    origin: Origin,
    link: ShimLink,
    mut events: mpsc::UnboundedReceiver<ShimEvent>,
) -> Result<(), StartError> {
    loop {
        match events.recv().await {
            Some(ShimEvent::Started { pid, started_at, warnings }) => {
                for warning in warnings {
                    tracing::warn!(container = %container.id, %warning, "started with less than was asked for");
                }
                let kept = link.clone();
                container.change(Change::Start, move |inner| {
                    let state = &mut inner.record.state;
                    state.pid = pid;
                    state.started_at = started_at;
                    state.exit_code = 0;
                    state.oom_killed = false;
                    state.error.clear();
                    if origin == Origin::Person {
                        state.restart_count = 0;
                        state.manually_stopped = false;
                    }
                    inner.link = Some(kept);
                })?;
                container.persist(&engine.store, false)?;
                engine.events.emit("container", "start", &container.id, container.event_attributes());
                network::refresh_host_names(engine);
                super::health::begin(engine, container);
                super::forward::begin(engine, container, false);
                tokio::spawn(supervise::supervise(Arc::clone(engine), Arc::clone(container), events));
                return Ok(());
            }
            Some(ShimEvent::StartFailed { exit_code, message }) => {
                return Err(StartError::Program { exit_code, message });
            }
            Some(_) => {}
            None => return Err(StartError::MonitorLost),
        }
    }
}

/// Records a failed start and takes back what it had.
async fn fail(engine: &Arc<Engine>, container: &Arc<Container>, error: &StartError) {
    let (exit_code, message) = (error.exit_code(), crate::error::error_chain(error));
    let recorded = container.change(Change::StartFailed, |inner| {
        inner.record.state.exit_code = exit_code;
        inner.record.state.error = message;
        inner.record.state.pid = 0;
        inner.link = None;
        inner.waiting_attaches.clear();
    });
    network::detach(engine, container).await;
    let generation = container.lock().record.state.generation;
    supervise::release_volumes(engine, container, generation).await;
    if let Err(refused) = recorded {
        tracing::debug!(container = %container.id, %refused, "a failed start is not recorded");
        return;
    }
    container.announce_failed_start();
    if let Err(error) = container.persist(&engine.store, false) {
        tracing::error!(container = %container.id, %error, "record a failed start");
    }
    if container.lock().record.host_config.auto_remove {
        remove::spawn_auto_remove(engine, container);
    }
}

/// Everything a launch needs, worked out from the record.
pub fn prepare(
    engine: &Engine,
    container: &Container,
    attachment: &Attachment,
    generation: u64,
) -> Result<LaunchConfig, StartError> {
    let mut record = container.record();
    provide_sources(&record)?;
    if record.host_config.links.is_some() {
        let mut told = crate::network::link_environment(engine, &record);
        told.extend(record.config.env.take().unwrap_or_default());
        record.config.env = Some(told);
    }
    for plan in record.mounts.iter_mut().filter(|plan| plan.kind == MountKind::Image) {
        plan.layer_paths = engine.store.snapshots().layer_paths(&plan.layers)?;
    }
    crate::secrets::place(engine, &mut record)?;
    let snapshot = engine.store.snapshots().get(&container.id)?;
    let mut layers = vec![snapshot.upper.clone()];
    layers.extend(snapshot.lowers.iter().cloned());
    let identity = identity(&record, &Layered::new(layers))?;
    let namespaces = namespaces(engine, &record, attachment)?;
    let etc = etc::write(engine, container, &record, attachment)?;
    let input =
        SpecInput { record: &record, identity: &identity, namespaces, etc: Some(etc), host: &engine.host };
    let built = spec::build(&input)?;
    let seccomp = match record.host_config.privileged {
        true => None,
        false => engine.seccomp.filter(&built.security.seccomp, &built.capabilities)?,
    };
    let run_dir = engine.run_dir(&container.id);
    std::fs::create_dir_all(&run_dir)
        .map_err(|source| StartError::Write { path: run_dir.clone(), source })?;
    Ok(LaunchConfig {
        version: VERSION,
        id: container.id.clone(),
        generation,
        run_dir,
        data_dir: container.dir.dir().to_path_buf(),
        spec: built.spec,
        rootfs: Rootfs::Overlay {
            lowers: snapshot.lowers,
            upper: snapshot.upper,
            work: snapshot.work,
            volatile: record.host_config.auto_remove,
        },
        seccomp: seccomp.map(|filter| filter.to_string()),
        init: record.host_config.init.unwrap_or(false),
        terminal: record.config.tty.then(|| window(&record)),
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        log: log_config(container, &record)?,
        durable: record.durable(),
        gated: false,
    })
}

fn window(record: &Record) -> WindowSize {
    let [rows, cols] = record.host_config.console_size.map(|size| u16::try_from(size).unwrap_or(0));
    WindowSize { rows, cols }
}

/// How the container's output is kept.
pub(super) fn log_config(container: &Container, record: &Record) -> Result<LogConfig, SettingsError> {
    let labels = record.config.labels.clone().unwrap_or_default();
    let environment = record.config.env.clone().unwrap_or_default();
    let attributes = logging::attributes(&record.host_config, &labels, &environment);
    logging::config(&record.host_config, &container.dir.log_path(), &attributes)
}

/// Missing sources of `-v` are made as directories, as Docker does; other missing ones are errors.
fn provide_sources(record: &Record) -> Result<(), StartError> {
    for plan in record.mounts.iter().filter(|plan| plan.kind == MountKind::Bind) {
        if Path::new(&plan.source).symlink_metadata().is_ok() {
            continue;
        }
        if !plan.create_source {
            return Err(StartError::NoSource(plan.source.clone()));
        }
        std::fs::create_dir_all(&plan.source)
            .map_err(|source| StartError::MakeSource { path: plan.source.clone(), source })?;
    }
    Ok(())
}

fn identity(record: &Record, layers: &Layered) -> Result<Identity, StartError> {
    account(&record.config.user, record.host_config.group_add.as_deref().unwrap_or_default(), layers)
}

/// Looks a user up in the container's own files.
pub fn account(user: &str, group_add: &[String], layers: &Layered) -> Result<Identity, StartError> {
    let read = |path| -> Result<String, StartError> {
        let bytes = layers.read(path, MAX_ACCOUNTS)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(user::resolve(user, group_add, &read("/etc/passwd")?, &read("/etc/group")?)?)
}

fn namespaces(engine: &Engine, record: &Record, attachment: &Attachment) -> Result<Namespaces, StartError> {
    let config = &record.host_config;
    let pid = pid_mode(&config.pid_mode).map_err(SettingsError::from)?;
    let ipc = ipc_mode(&config.ipc_mode).map_err(SettingsError::from)?;
    Ok(Namespaces {
        network: attachment.namespace.clone(),
        pid: sharing(engine, pid, "PID", "pid")?,
        ipc: sharing(engine, ipc, "IPC", "ipc")?,
    })
}

fn sharing(engine: &Engine, mode: Mode<'_>, kind: &'static str, file: &str) -> Result<Sharing, StartError> {
    match mode {
        Mode::Own => Ok(Sharing::Own),
        Mode::Host => Ok(Sharing::Host),
        Mode::Container(name) => {
            let peer = engine.containers.find(name).map_err(NetworkError::from)?;
            let path = network::namespace_of(&peer, file);
            path.map(Sharing::Path).ok_or_else(|| StartError::PeerNotRunning { kind, name: name.to_owned() })
        }
    }
}
