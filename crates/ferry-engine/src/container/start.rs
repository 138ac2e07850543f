//! Starting: from a record to a running process, through the launcher.
//!
//! Nothing global is locked while a start is under way, and nothing is fsynced: the monitor's exit record and
//! its `Hello` tell a later engine all that this one had not yet written.

mod error;
mod prepare;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::{LaunchConfig, ShimEvent, ShimRequest};
use tokio::sync::mpsc;

pub use error::StartError;
pub(super) use prepare::log_config;
pub use prepare::{account, prepare};

use super::Container;
use super::attach::AttachOrder;
use super::record::Record;
use super::state::{Change, Status};
use super::{remove, supervise};
use crate::engine::Engine;
use crate::network::{self, Attachment};
use crate::shim::ShimLink;
use crate::volume;

/// How long the run before may take to write its files back and leave its cgroup.
const LAST_RUN_PATIENCE: Duration = Duration::from_secs(120);

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
