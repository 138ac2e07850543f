//! Taking over at start-up: what is on disk, what still runs, what ended meanwhile.
//!
//! Three witnesses are asked, the surest first: the monitor (if its socket answers, it knows all), the exit
//! record (if its run is the latest known, the run is over), the record (what the last engine knew). The same
//! steps of the state machine are taken as if this engine had seen it happen.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ferry_shim::protocol::{ExitRecord, SHIM_SOCKET, ShimEvent, ShimState};
use ferry_sys::channel::Channel;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::record::Record;
use super::start::{self, Origin};
use super::state::{Change, Status};
use super::supervise::{self, ended, lost};
use super::{Container, health, project, remove, restart, signal};
use crate::clock;
use crate::engine::Engine;
use crate::shim::ShimLink;
use crate::volume;

/// How long clients wait for slow monitors before they are served; those go on being awaited.
const PATIENCE: Duration = Duration::from_secs(3);
/// File under the run root that tells a new engine of the same keeper from a fresh start of all.
const OWNER_FILE: &str = "engine.owner";

/// Finds every container again. Returns once the answers of nearly all are in.
pub async fn recover(engine: &Arc<Engine>) -> anyhow::Result<()> {
    let fresh = is_fresh_start(engine)?;
    let containers = read_records(engine)?;
    sweep_run_directories(engine).await;
    let mut taking_over = JoinSet::new();
    for container in containers {
        taking_over.spawn(take_over(Arc::clone(engine), container, fresh));
    }
    let all = async { while taking_over.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, all).await.is_ok() {
        engine.recovered.send_replace(true);
        return Ok(());
    }
    tracing::warn!(count = taking_over.len(), "containers whose monitors have not answered yet");
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        while taking_over.join_next().await.is_some() {}
        engine.recovered.send_replace(true);
    });
    Ok(())
}

fn read_records(engine: &Arc<Engine>) -> anyhow::Result<Vec<Arc<Container>>> {
    let mut containers = Vec::new();
    for (id, bytes) in engine.store.containers().read_all()? {
        let decoded = bytes.map_err(anyhow::Error::from).and_then(|bytes| Ok(Record::decode(&id, &bytes)?));
        let record = match decoded {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(container = %id, error = format!("{error:#}"), "container left alone");
                continue;
            }
        };
        if let Err(taken) = engine.containers.reserve(&record.name, &record.id) {
            tracing::error!(container = %id, error = %taken, "container left alone");
            continue;
        }
        restore_snapshot(engine, &record);
        let container = Container::new(record, engine.store.containers().dir(&id));
        engine.containers.insert(Arc::clone(&container));
        containers.push(container);
    }
    Ok(containers)
}

/// What the store has written down of a container's layers is not synced, since the record, which is, says the same:
/// after a power cut it is written down again.
fn restore_snapshot(engine: &Engine, record: &Record) {
    let snapshots = engine.store.snapshots();
    let mounted: Vec<_> = record.mounts.iter().flat_map(|plan| plan.layers.clone()).collect();
    let restored = match snapshots.diff_ids(&record.id) {
        Some(_) => Ok(()),
        None => snapshots.prepare(&record.id, &record.layers).map(drop),
    };
    if let Err(error) = restored.and_then(|()| snapshots.keep_mounted(&record.id, &mounted)) {
        let error = &error as &dyn std::error::Error;
        tracing::error!(container = %record.id, error, "its layers are not to be had");
    }
}

/// False when this engine replaces one under the same keeper: then nothing is started by policy that was
/// stopped by a person.
fn is_fresh_start(engine: &Engine) -> anyhow::Result<bool> {
    let path = engine.options.run_root.join(OWNER_FILE);
    let owner = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()).to_string();
    let fresh = std::fs::read_to_string(&path).map_or(true, |before| before != owner);
    std::fs::create_dir_all(&engine.options.run_root)
        .and_then(|()| std::fs::write(&path, owner))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(fresh)
}

async fn take_over(engine: Arc<Engine>, container: Arc<Container>, fresh: bool) {
    let socket = engine.run_dir(&container.id).join(SHIM_SOCKET);
    match connect(&socket) {
        Some((link, events)) => match link.hello().await {
            Ok(state) => adopt(&engine, &container, link, events, state).await,
            Err(error) => {
                tracing::warn!(container = %container.id, %error, "a monitor went away while it was asked");
                without_monitor(&engine, &container, fresh).await;
            }
        },
        None => without_monitor(&engine, &container, fresh).await,
    }
}

fn connect(socket: &Path) -> Option<(ShimLink, mpsc::UnboundedReceiver<ShimEvent>)> {
    let channel = Channel::connect(socket).ok()?;
    ShimLink::start(channel).ok()
}

/// The monitor lives: it is believed.
async fn adopt(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    link: ShimLink,
    events: mpsc::UnboundedReceiver<ShimEvent>,
    state: ShimState,
) {
    let (pid, started_at, generation, oom) =
        (state.pid, state.started_at.clone(), state.generation, state.oom_killed);
    let kept_link = link.clone();
    let learn = |inner: &mut super::Inner| {
        let kept = &mut inner.record.state;
        kept.pid = pid;
        kept.started_at = started_at;
        kept.generation = generation;
        kept.oom_killed |= oom;
        inner.link = Some(kept_link);
    };
    if container.status().has_process() {
        learn(&mut container.lock());
    } else if container.status() == Status::Removing {
        return finish_removal(engine, container, Some(link)).await;
    } else if let Err(refused) = container.change(Change::Start, learn) {
        tracing::error!(container = %container.id, %refused, "a monitor runs for a container that cannot run");
        return;
    }
    let (kept, work) = (container.record(), Arc::clone(engine));
    match tokio::task::spawn_blocking(move || volume::hold_all(&work, &kept)).await {
        Ok(Ok(holds)) => container.lock().holds = holds,
        Ok(Err(error)) => tracing::error!(container = %container.id, %error, "find its volumes again"),
        Err(error) => tracing::error!(container = %container.id, %error, "find its volumes again"),
    }
    container.execs.adopt(state.execs);
    container.output.connect(&link);
    if let Some(exit) = state.exit {
        return ended(engine, container, exit).await;
    }
    match (state.frozen, container.status() == Status::Paused) {
        // Frozen for a copy of its files, or by a pause that nobody was told of: it goes on.
        (true, false) => {
            if let Err(error) = link.freeze(false).await {
                tracing::error!(container = %container.id, %error, "a container stays frozen");
            }
        }
        // Paused, so this is always allowed.
        (false, true) => drop(container.change(Change::Unpause, |_| ())),
        (true, true) | (false, false) => {}
    }
    super::update::finish_broken(engine, container).await;
    persist(engine, container);
    health::resume(engine, container);
    super::forward::begin(engine, container, true);
    tokio::spawn(supervise::supervise(Arc::clone(engine), Arc::clone(container), events));
}

/// No monitor: the container does not run; what is on disk tells how it ended.
async fn without_monitor(engine: &Arc<Engine>, container: &Arc<Container>, fresh: bool) {
    let exit = supervise::read_exit(container);
    let (status, generation) = {
        let inner = container.lock();
        (inner.record.state.status, inner.record.state.generation)
    };
    match status {
        Status::Running | Status::Paused => match exit {
            Some(exit) => ended(engine, container, exit).await,
            None if ran_before_boot(container) => host_restarted(engine, container).await,
            None => lost(engine, container).await,
        },
        Status::Created | Status::Exited | Status::Dead | Status::Restarting => match exit {
            // A run that the last engine started and had no time to write down.
            Some(exit) if exit.generation > generation => unseen_run(engine, container, exit).await,
            Some(_) | None => at_rest(engine, container, status, fresh).await,
        },
        Status::Removing => finish_removal(engine, container, None).await,
    }
}

async fn unseen_run(engine: &Arc<Engine>, container: &Arc<Container>, exit: ExitRecord) {
    let generation = exit.generation;
    let started = container.change(Change::Start, |inner| inner.record.state.generation = generation);
    if started.is_ok() {
        ended(engine, container, exit).await;
    }
}

fn ran_before_boot(container: &Container) -> bool {
    let started = clock::parse(&container.lock().record.state.started_at);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    match (started, boot.and_then(|seconds| Timestamp::new(seconds, 0).ok())) {
        (Some(started), Some(boot)) => started < boot,
        _ => false,
    }
}

async fn host_restarted(engine: &Arc<Engine>, container: &Arc<Container>) {
    let exit = {
        let inner = container.lock();
        let state = &inner.record.state;
        ExitRecord {
            version: ferry_shim::protocol::VERSION,
            generation: state.generation,
            pid: state.pid,
            exit_code: supervise::EXIT_LOST,
            signal: Some(signal::KILL),
            oom_killed: false,
            started_at: state.started_at.clone(),
            finished_at: clock::now(),
            error: Some("the host was restarted while the container ran".into()),
        }
    };
    ended(engine, container, exit).await;
}

/// A container that did not run: policies may want it to.
async fn at_rest(engine: &Arc<Engine>, container: &Arc<Container>, status: Status, fresh: bool) {
    let (policy, stopped, removes) = {
        let inner = container.lock();
        let config = &inner.record.host_config;
        (config.restart_policy.name.clone(), inner.record.state.manually_stopped, config.auto_remove)
    };
    if status == Status::Restarting {
        return restart::schedule(engine, container, restart::Backoff);
    }
    if removes && status != Status::Created {
        return remove::spawn_auto_remove(engine, container);
    }
    let wanted = match policy.as_str() {
        "always" => true,
        "unless-stopped" | "on-unhealthy" => !stopped,
        _ => false,
    };
    if !(fresh && wanted && status != Status::Created) {
        return;
    }
    if !project::has_dependencies(container) {
        return start_by_policy(engine, container, status).await;
    }
    // What it needs may be looked after later than it.
    container.lock().waits_for_others = true;
    let (engine, container) = (Arc::clone(engine), Arc::clone(container));
    tokio::spawn(async move {
        project::dependencies_ready(&engine, &container).await;
        start_by_policy(&engine, &container, status).await;
        container.lock().waits_for_others = false;
    });
}

/// Starts it unless somebody did something with it meanwhile.
async fn start_by_policy(engine: &Arc<Engine>, container: &Arc<Container>, status: Status) {
    let lifecycle = container.lifecycle.lock().await;
    if container.status() != status || container.lock().removed {
        return;
    }
    let started = start::start_locked(engine, container, Origin::Policy).await;
    drop(lifecycle);
    match started {
        Ok(_) => project::post_start(engine, container).await,
        Err(error) => tracing::warn!(container = %container.id, %error, "start by policy"),
    }
}

async fn finish_removal(engine: &Arc<Engine>, container: &Arc<Container>, link: Option<ShimLink>) {
    if let Some(link) = link {
        // Whatever it answers, the cgroup is killed next.
        let _ = link.signal_all(signal::KILL).await;
        supervise::kill_cgroup(container).await;
    }
    let _lifecycle = container.lifecycle.lock().await;
    if let Err(error) = remove::remove_locked(engine, container, false).await {
        tracing::error!(container = %container.id, %error, "finish a removal");
    }
}

/// Run directories of containers that are no more: a removal that an engine did not live to finish.
async fn sweep_run_directories(engine: &Arc<Engine>) {
    let Ok(entries) = std::fs::read_dir(engine.options.run_root.join("containers")) else { return };
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if engine.store.containers().dir(&id).record_path().exists() {
            continue;
        }
        if let Some((link, mut events)) = connect(&entry.path().join(SHIM_SOCKET))
            && !crate::build::end_monitor(&link, &mut events).await
        {
            // It is ended by the next start-up.
            tracing::warn!(container = %id, "a monitor without a container does not end");
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(container = %id, %error, "remove a stale run directory");
        }
    }
}

fn persist(engine: &Engine, container: &Container) {
    if let Err(error) = container.persist(&engine.store, false) {
        tracing::error!(container = %container.id, %error, "record a container that was taken over");
    }
}
