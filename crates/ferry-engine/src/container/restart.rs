//! Restart policies: whether a container that ended is started again, and when.

use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::start::{self, Origin};
use super::state::{Change, Status};
use super::supervise::run_time;
use super::{Container, project, stop};
use crate::engine::Engine;

/// Wait before the first restart.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A run this long makes the next wait short again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Shall the container be started again after this end? Then: how its wait grows.
pub fn decide(record: &Record, exit_code: i32) -> Option<Backoff> {
    let (policy, state) = (&record.host_config.restart_policy, &record.state);
    if state.manually_stopped || record.host_config.auto_remove {
        return None;
    }
    let limit = policy.maximum_retry_count;
    let again = match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => exit_code != 0 && (limit == 0 || i64::from(state.restart_count) < limit),
        // As on-failure, and after an end that poor health brought about.
        "on-unhealthy" => {
            let unhealthy = state.health.as_ref().is_some_and(|health| health.status == "unhealthy");
            (exit_code != 0 || unhealthy) && (limit == 0 || i64::from(state.restart_count) < limit)
        }
        _ => false,
    };
    again.then_some(Backoff)
}

/// Ends a container that became unhealthy and whose policy wants it anew; its end brings the restart.
pub fn when_unhealthy(engine: &Arc<Engine>, container: &Arc<Container>) {
    let wanted = {
        let inner = container.lock();
        let (policy, state) = (&inner.record.host_config.restart_policy, &inner.record.state);
        let limit = policy.maximum_retry_count;
        policy.name == "on-unhealthy"
            && !state.manually_stopped
            && (limit == 0 || i64::from(state.restart_count) < limit)
    };
    if wanted {
        // Not within the probing task: that one ends with the container.
        let (engine, container) = (Arc::clone(engine), Arc::clone(container));
        tokio::spawn(async move { stop::end(&engine, &container).await });
    }
}

/// Proof that a restart was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff;

/// The wait before the next restart: doubled each time, short again after a good run.
pub fn next_wait(previous: Option<Duration>, ran: Duration) -> Duration {
    match previous {
        Some(previous) if ran < GOOD_RUN => (previous * 2).min(MAX_WAIT),
        _ => FIRST_WAIT,
    }
}

/// Starts the container again after its wait, unless somebody cancels.
pub fn schedule(engine: &Arc<Engine>, container: &Arc<Container>, _decided: Backoff) {
    let wait = {
        let mut inner = container.lock();
        let state = &inner.record.state;
        let wait = next_wait(inner.last_wait, run_time(&state.started_at, &state.finished_at));
        inner.last_wait = Some(wait);
        wait
    };
    let (engine, waiting) = (Arc::clone(engine), Arc::clone(container));
    let task = tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        project::dependencies_ready(&engine, &waiting).await;
        let lifecycle = waiting.lifecycle.lock().await;
        if waiting.status() != Status::Restarting {
            return;
        }
        {
            let mut inner = waiting.lock();
            inner.record.state.restart_count += 1;
            // From here on the start itself is not to be aborted.
            inner.restart = None;
        }
        let started = start::start_locked(&engine, &waiting, Origin::Policy).await;
        drop(lifecycle);
        match started {
            Ok(_) => project::post_start(&engine, &waiting).await,
            Err(error) => tracing::warn!(container = %waiting.id, %error, "restart by policy"),
        }
    });
    container.lock().restart = Some(task.abort_handle());
}

/// Ends a wait for a restart for good; the container is down then. True when there was one.
pub fn cancel(engine: &Engine, container: &Container) -> bool {
    container.cancel_restart();
    let cancelled = container.change(Change::CancelRestart, |inner| {
        inner.record.state.manually_stopped = true;
    });
    if cancelled.is_ok()
        && let Err(error) = container.persist(&engine.store, false)
    {
        tracing::error!(container = %container.id, %error, "record a cancelled restart");
    }
    cancelled.is_ok()
}

/// `docker restart`: stops and starts again, as one verb.
pub async fn restart(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<(), start::StartError> {
    // Auto-removal between the two halves would take the container away.
    container.lock().hold_removal = true;
    stop::stop(engine, container, signal, timeout).await;
    container.lock().hold_removal = false;
    let outcome = start::start(engine, container).await;
    outcome?;
    engine.events.emit("container", "restart", &container.id, container.event_attributes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use ferry_api::container::RestartPolicy;

    use super::*;

    fn record(policy: &str, limit: i64, count: u32, stopped: bool) -> Record {
        let text = r#"{"version":1,"id":"abc","name":"web","created":"","image_id":"","layers":[],
            "config":{},"host_config":{},"state":{}}"#;
        let mut record = Record::decode("abc", text.as_bytes()).unwrap();
        record.host_config.restart_policy = RestartPolicy { name: policy.into(), maximum_retry_count: limit };
        record.state.restart_count = count;
        record.state.manually_stopped = stopped;
        record
    }

    #[test]
    fn policies_decide() {
        for (policy, limit, count, stopped, exit, again) in [
            ("no", 0, 0, false, 1, false),
            ("", 0, 0, false, 1, false),
            ("always", 0, 9, false, 0, true),
            ("always", 0, 0, true, 0, false),
            ("unless-stopped", 0, 0, false, 1, true),
            ("unless-stopped", 0, 0, true, 1, false),
            ("on-failure", 0, 99, false, 1, true),
            ("on-failure", 0, 0, false, 0, false),
            ("on-failure", 3, 2, false, 1, true),
            ("on-failure", 3, 3, false, 1, false),
            ("on-unhealthy", 0, 0, false, 1, true),
            ("on-unhealthy", 0, 0, false, 0, false),
        ] {
            let decided = decide(&record(policy, limit, count, stopped), exit).is_some();
            assert_eq!(decided, again, "{policy} {limit} {count} {stopped} {exit}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let short = Duration::from_secs(1);
        let mut wait = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            wait = Some(next_wait(wait, short));
            waits.push(wait.unwrap().as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 60_000);
        assert_eq!(next_wait(wait, GOOD_RUN), FIRST_WAIT);
    }
}
