//! Ending and freezing: stop, kill, pause, unpause.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::state::{Change, Refused, Status};
use super::{Container, restart, signal, stuck};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::shim::LinkError;

/// Seconds between the stop signal and SIGKILL when nothing is said.
const DEFAULT_TIMEOUT: i64 = 10;
/// How long SIGKILL may take before the cgroup is killed as a whole.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Why a signal was not sent, or a freeze not made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Kill of what does not run.
    #[error("cannot kill container: {name}: container {id} is not running")]
    KillNotRunning {
        /// As given.
        name: String,
        /// Full id.
        id: String,
    },
    /// Anything else of what does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// Pause twice.
    #[error("container {0} is already paused")]
    Paused(String),
    /// Unpause of what is not frozen.
    #[error("Container {0} is not paused")]
    NotPaused(String),
    /// It waits for its restart.
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// A signal nobody knows.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// The monitor.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It changed meanwhile.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl HttpStatus for ControlError {
    fn status(&self) -> StatusCode {
        match self {
            Self::KillNotRunning { .. }
            | Self::NotRunning(_)
            | Self::Paused(_)
            | Self::Restarting(_)
            | Self::Refused(_) => StatusCode::CONFLICT,
            Self::Signal(_) => StatusCode::BAD_REQUEST,
            Self::NotPaused(_) => StatusCode::CONFLICT,
            Self::Link(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Reads a signal as clients give it.
pub fn parse_signal(text: &str) -> Result<i32, ControlError> {
    signal::parse(text).ok_or_else(|| ControlError::Signal(text.to_owned()))
}

/// Stops a container: its signal, patience, SIGKILL. False when it did not run.
pub async fn stop(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> bool {
    if container.status() == Status::Restarting {
        container.cancel_restart();
        // A start under way cannot be called off any more: what it starts is stopped like any other.
        let _settled = container.lifecycle.lock().await;
        if restart::cancel(engine, container) {
            return true;
        }
    }
    if !container.status().has_process() {
        return false;
    }
    container.lock().record.state.manually_stopped = true;
    end_with(engine, container, signal, timeout).await;
    engine.events.emit("container", "stop", &container.id, container.event_attributes());
    true
}

/// Ends the present run as `stop` does, but as nobody's wish: the restart policy decides what follows.
pub async fn end(engine: &Arc<Engine>, container: &Arc<Container>) {
    end_with(engine, container, None, None).await;
}

async fn end_with(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
) {
    let (own_signal, own_timeout) = stop_settings(container);
    let signal = signal.unwrap_or(own_signal);
    let timeout = timeout.or(own_timeout).unwrap_or(DEFAULT_TIMEOUT);
    let ended = ended_once(container);
    send(engine, container, signal).await;
    let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
    if !within(patience, ended).await {
        tracing::info!(container = %container.id, timeout, signal, "did not stop in time; killing it");
        kill_for_good(engine, container).await;
    }
}

fn stop_settings(container: &Container) -> (i32, Option<i64>) {
    let inner = container.lock();
    let config = &inner.record.config;
    (signal::parse(&config.stop_signal).unwrap_or(signal::TERM), config.stop_timeout)
}

/// Completes when the present run is over. Watches from the moment of the call.
fn ended_once(container: &Arc<Container>) -> impl Future<Output = ()> + use<> {
    let mut moments = container.watch();
    let exits = moments.borrow_and_update().exits;
    async move {
        let over =
            |moment: &super::Moment| moment.exits > exits || moment.removed || !moment.status.has_process();
        // The sender lives as long as the container.
        let _ = moments.wait_for(over).await;
    }
}

/// True when the future completed in time; no time means for ever.
async fn within(patience: Option<Duration>, future: impl Future<Output = ()>) -> bool {
    match patience {
        Some(patience) => tokio::time::timeout(patience, future).await.is_ok(),
        None => {
            future.await;
            true
        }
    }
}

/// Sends a signal, tells of it, and thaws a container that shall end. False when the monitor does not answer.
async fn send(engine: &Engine, container: &Container, signal: i32) -> bool {
    let Some(link) = container.link() else { return true };
    match tokio::time::timeout(stuck::MONITOR_PATIENCE, link.signal(None, signal)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(container = %container.id, signal, %error, "signal not delivered");
            return true;
        }
        Err(_) => {
            tracing::warn!(container = %container.id, signal, "the monitor does not answer");
            return false;
        }
    }
    let mut attributes = container.event_attributes();
    attributes.insert("signal".into(), signal.to_string());
    engine.events.emit("container", "kill", &container.id, attributes);
    let ends = signal == signal::KILL || signal == stop_settings(container).0;
    if ends && container.status() == Status::Paused {
        thaw(container, &link).await;
    }
    true
}

async fn thaw(container: &Container, link: &crate::shim::ShimLink) {
    match stuck::answered(container, link.freeze(false)).await {
        Ok(()) => {
            // It may have ended in between; then there is nothing to change.
            let _ = container.change(Change::Unpause, |_| ());
        }
        Err(error) => tracing::warn!(container = %container.id, %error, "thaw"),
    }
}

/// SIGKILL to the first process, to the whole cgroup if that does not help, and to a monitor that does not see it.
pub async fn kill_for_good(engine: &Arc<Engine>, container: &Arc<Container>) {
    let ended = ended_once(container);
    tokio::pin!(ended);
    let answers = send(engine, container, signal::KILL).await;
    let patience = if answers { KILL_PATIENCE } else { Duration::ZERO };
    if tokio::time::timeout(patience, &mut ended).await.is_err() {
        super::supervise::kill_cgroup(container).await;
        if tokio::time::timeout(stuck::REPORT_PATIENCE, &mut ended).await.is_err()
            && tokio::time::timeout(stuck::further_patience(container), &mut ended).await.is_err()
        {
            stuck::end_monitor(container);
            ended.await;
        }
    }
}

/// `docker kill`.
pub async fn kill(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    name: &str,
    signal: i32,
) -> Result<(), ControlError> {
    if container.status() == Status::Restarting && restart::cancel(engine, container) {
        return Ok(());
    }
    let Some(link) = container.link() else {
        return Err(ControlError::KillNotRunning { name: name.to_owned(), id: container.id.clone() });
    };
    let ends = signal == signal::KILL || signal == stop_settings(container).0;
    if ends {
        container.lock().record.state.manually_stopped = true;
    }
    if signal == signal::KILL {
        kill_for_good(engine, container).await;
        return Ok(());
    }
    stuck::answered(container, link.signal(None, signal)).await?;
    let mut attributes = container.event_attributes();
    attributes.insert("signal".into(), signal.to_string());
    engine.events.emit("container", "kill", &container.id, attributes);
    if ends && container.status() == Status::Paused {
        thaw(container, &link).await;
    }
    Ok(())
}

/// `docker pause`.
pub async fn pause(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<(), ControlError> {
    let _lifecycle = container.lifecycle.lock().await;
    match container.status() {
        Status::Running => {}
        Status::Paused => return Err(ControlError::Paused(container.id.clone())),
        Status::Restarting => return Err(ControlError::Restarting(container.id.clone())),
        Status::Created | Status::Exited | Status::Dead | Status::Removing => {
            return Err(ControlError::NotRunning(container.id.clone()));
        }
    }
    let link = container.link().ok_or_else(|| ControlError::NotRunning(container.id.clone()))?;
    stuck::freeze(container, &link, true).await?;
    container.change(Change::Pause, |_| ())?;
    persist(engine, container);
    engine.events.emit("container", "pause", &container.id, container.event_attributes());
    Ok(())
}

/// `docker unpause`.
pub async fn unpause(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<(), ControlError> {
    let _lifecycle = container.lifecycle.lock().await;
    if container.status() != Status::Paused {
        return Err(ControlError::NotPaused(container.id.clone()));
    }
    let link = container.link().ok_or_else(|| ControlError::NotRunning(container.id.clone()))?;
    stuck::freeze(container, &link, false).await?;
    container.change(Change::Unpause, |_| ())?;
    persist(engine, container);
    engine.events.emit("container", "unpause", &container.id, container.event_attributes());
    Ok(())
}

fn persist(engine: &Engine, container: &Container) {
    if let Err(error) = container.persist(&engine.store, false) {
        tracing::error!(container = %container.id, %error, "record a change");
    }
}
