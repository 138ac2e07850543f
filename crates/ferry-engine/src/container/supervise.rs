//! Watching a running container: what its monitor reports becomes records, events, restarts and removals.

use std::sync::Arc;
use std::time::Duration;

use ferry_runtime::cgroup::Cgroup;
use ferry_shim::log::rotate;
use ferry_shim::protocol::{ExitRecord, LogConfig, ShimEvent, ShimRequest};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::state::Change;
use super::{Container, remove, restart};
use crate::clock;
use crate::engine::Engine;
use crate::network;
use crate::spec;

/// Exit code of a container whose monitor was lost: what SIGKILL gives, because that ended it.
pub const EXIT_LOST: i32 = 137;
/// How long a reader may take for what a container left in its log; after that old files go at the next start.
const READERS_PATIENCE: Duration = Duration::from_secs(3600);

/// Follows one run of a container to its end.
pub async fn supervise(
    engine: Arc<Engine>,
    container: Arc<Container>,
    mut events: mpsc::UnboundedReceiver<ShimEvent>,
) {
    while let Some(event) = events.recv().await {
        match event {
            ShimEvent::Exited(record) => return ended(&engine, &container, record).await,
            ShimEvent::ExecExited { exec_id, exit_code } => {
                super::exec::ended(&engine, &container, &exec_id, exit_code);
            }
            ShimEvent::Oom => {
                container.lock().record.state.oom_killed = true;
                engine.events.emit("container", "oom", &container.id, container.event_attributes());
            }
            ShimEvent::LogTick { generation } => container.output.tick(generation),
            ShimEvent::LogTrouble { reason, lost } => log_trouble(&engine, &container, reason, lost),
            // A start is over before supervision begins.
            ShimEvent::Started { .. } | ShimEvent::StartFailed { .. } => {}
        }
    }
    lost(&engine, &container).await;
}

/// The log cannot be written, which a person is to know before the output is missed, or it goes on.
fn log_trouble(engine: &Engine, container: &Container, reason: Option<String>, lost: Option<String>) {
    let mut attributes = container.event_attributes();
    let (action, error) = match reason {
        Some(reason) => {
            tracing::warn!(container = %container.id, reason, "the log cannot be written; the container goes on");
            attributes.insert("reason".into(), reason.clone());
            ("log_stopped", format!("log: cannot be written at present: {reason}"))
        }
        None => ("log_resumed", lost.unwrap_or_default()),
    };
    container.lock().record.state.error = error;
    engine.events.emit("container", action, &container.id, attributes);
}

/// The first process ended and its record is on disk.
pub async fn ended(engine: &Arc<Engine>, container: &Arc<Container>, exit: ExitRecord) {
    let link = container.link();
    let decision = restart::decide(&container.lock().record, exit.exit_code);
    let change = if decision.is_some() { Change::ExitForRestart } else { Change::Exit };
    let (exit_code, started, finished) = (exit.exit_code, exit.started_at.clone(), exit.finished_at.clone());
    let generation = container.lock().record.state.generation;
    let changed = container.change(change, move |inner| {
        let state = &mut inner.record.state;
        state.exit_code = exit.exit_code;
        state.oom_killed |= exit.oom_killed;
        state.started_at = exit.started_at;
        state.finished_at = exit.finished_at;
        state.error = exit.error.unwrap_or_default();
        state.pid = 0;
        inner.last_link = inner.link.take();
    });
    if let Some(link) = link {
        link.tell(ShimRequest::Release, Vec::new());
    }
    if let Err(refused) = changed {
        tracing::debug!(container = %container.id, %refused, "an exit came twice");
        return;
    }
    after_end(engine, container, generation, exit_code, &started, &finished).await;
    match decision {
        Some(backoff) => restart::schedule(engine, container, backoff),
        None if container.lock().record.host_config.auto_remove => {
            remove::spawn_auto_remove(engine, container)
        }
        None => trim_log(container),
    }
}

/// A reader that was slower than the container kept rotated files alive; when it has read them they go.
fn trim_log(container: &Arc<Container>) {
    let record = container.record();
    let Ok(LogConfig::JsonFile { path, max_file, .. }) = super::start::log_config(container, &record) else {
        return;
    };
    if !rotate::has_surplus(&path, max_file) {
        return;
    }
    let container = Arc::clone(container);
    tokio::spawn(async move {
        container.output.drained(READERS_PATIENCE).await;
        let _lifecycle = container.lifecycle.lock().await;
        if container.status().has_process() || container.lock().removed {
            return;
        }
        if let Err(error) = rotate::trim(&path, max_file) {
            tracing::warn!(container = %container.id, %error, "remove old log files");
        }
    });
}

/// The monitor died and left no exit record: nobody would notice the container's end any more, so it is
/// ended now.
pub async fn lost(engine: &Arc<Engine>, container: &Arc<Container>) {
    // A monitor that wrote the record may have died before it gave the cgroup back.
    kill_cgroup(container).await;
    if let Some(exit) = read_exit(container) {
        return ended(engine, container, exit).await;
    }
    let finished = clock::now();
    let decision = restart::decide(&container.lock().record, EXIT_LOST);
    let started = container.lock().record.state.started_at.clone();
    let generation = container.lock().record.state.generation;
    let changed = container.change(Change::Lose, |inner| {
        let state = &mut inner.record.state;
        state.exit_code = EXIT_LOST;
        state.finished_at.clone_from(&finished);
        state.error = "the container's shim, which watched over it, died; its processes were killed".into();
        state.pid = 0;
        inner.link = None;
    });
    if changed.is_err() {
        return;
    }
    tracing::error!(container = %container.id, "monitor lost; the container was killed and is dead");
    after_end(engine, container, generation, EXIT_LOST, &started, &finished).await;
    match decision {
        Some(backoff) if container.change(Change::ExitForRestart, |_| ()).is_ok() => {
            restart::schedule(engine, container, backoff);
        }
        // It was changed by somebody else meanwhile, who decides now.
        Some(_) => {}
        None if container.lock().record.host_config.auto_remove => {
            remove::spawn_auto_remove(engine, container)
        }
        None => {}
    }
}

/// What every end has in common.
async fn after_end(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    generation: u64,
    exit_code: i32,
    started: &str,
    finished: &str,
) {
    super::exec::container_ended(engine, container);
    super::health::end(container);
    let mut attributes = container.event_attributes();
    attributes.insert("exitCode".into(), exit_code.to_string());
    attributes.insert("execDuration".into(), run_seconds(started, finished).to_string());
    engine.events.emit("container", "die", &container.id, attributes);
    network::detach_run(engine, container, generation).await;
    release_volumes(engine, container, generation).await;
    // A removal follows at once for these; their record is nobody's business any more.
    if !container.lock().record.host_config.auto_remove
        && let Err(error) = container.persist(&engine.store, false)
    {
        tracing::error!(container = %container.id, %error, "record the end of a container");
    }
}

/// Lets go of volumes that were mounted for a run. Unmounting may wait for a server in the network.
/// The next run may have begun meanwhile; then they are its own.
pub async fn release_volumes(engine: &Engine, container: &Container, generation: u64) {
    let holds = {
        let mut inner = container.lock();
        if inner.record.state.generation != generation {
            return;
        }
        crate::secrets::take_off(engine, &inner.record);
        std::mem::take(&mut inner.holds)
    };
    if !holds.is_empty()
        && let Err(error) = tokio::task::spawn_blocking(move || drop(holds)).await
    {
        tracing::error!(container = %container.id, %error, "let go of volumes");
    }
}

fn run_seconds(started: &str, finished: &str) -> i64 {
    match (clock::parse(started), clock::parse(finished)) {
        (Some(started), Some(finished)) => finished.as_second().saturating_sub(started.as_second()).max(0),
        _ => 0,
    }
}

/// How long the last run took.
pub fn run_time(started: &str, finished: &str) -> Duration {
    let span =
        |started: Timestamp, finished: Timestamp| Duration::try_from(finished.duration_since(started)).ok();
    clock::parse(started).zip(clock::parse(finished)).and_then(|(a, b)| span(a, b)).unwrap_or_default()
}

/// The exit record of the present run, if there is one.
pub fn read_exit(container: &Container) -> Option<ExitRecord> {
    let bytes = std::fs::read(container.dir.exit_path()).ok()?;
    let exit: ExitRecord = serde_json::from_slice(&bytes).ok()?;
    let known = container.lock().record.state.generation;
    (exit.generation >= known).then_some(exit)
}

/// Where there are no cgroups: the first process takes those of its pid namespace along. Ids are reused, so one that
/// is in the engine's own namespace is not touched.
fn kill_first_process(pid: i32) {
    let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/pid")).ok();
    let theirs = namespace(&pid.to_string());
    if pid > 1 && theirs.is_some() && theirs != namespace("self") {
        // One that has just ended needs no signal.
        let _ = ferry_sys::signal::kill(pid, rustix::process::Signal::KILL.as_raw());
    }
}

/// Ends every process of a container by its cgroup.
pub async fn kill_cgroup(container: &Arc<Container>) {
    let (path, pid) = {
        let inner = container.lock();
        (spec::cgroup_path(&inner.record.host_config, &container.id), inner.record.state.pid)
    };
    let id = container.id.clone();
    let killed = tokio::task::spawn_blocking(move || {
        if !ferry_runtime::cgroup::is_available() {
            kill_first_process(pid);
            return Ok(());
        }
        let cgroup = Cgroup::open(&path.to_string_lossy())?;
        cgroup.kill_all()?;
        cgroup.remove()
    });
    match killed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(container = %id, %error, "end what is left in a cgroup"),
        Err(error) => tracing::error!(container = %id, %error, "end what is left in a cgroup"),
    }
}
