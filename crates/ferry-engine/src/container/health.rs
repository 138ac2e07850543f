//! Health probes: a command run in the container again and again, and what its results mean.
//!
//! The judgement (`judge`) is pure; the loop around it runs one probe at a time as an exec.

use std::sync::Arc;
use std::time::Duration;

use ferry_api::container::{Health, HealthConfig, HealthResult};
use ferry_api::exec::{ExecCreateRequest, ExecStartRequest};
use ferry_shim::protocol::ShimRequest;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;

use super::Container;
use super::exec;
use super::probe::{self, Request};
use super::restart;
use super::state::Status;
use crate::clock;
use crate::engine::Engine;
use crate::network::namespace_of;

/// Between probes.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
/// For one probe.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Between probes while the container may still be starting.
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row that make a container unhealthy.
const DEFAULT_RETRIES: i64 = 3;
/// Output of a probe that is kept.
const MAX_OUTPUT: usize = 4096;
/// Results that are kept.
const MAX_RESULTS: usize = 5;
/// Exit code of a probe that took too long or could not be run.
const EXIT_TIMED_OUT: i64 = -1;

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// A command in the container.
    Command(Vec<String>),
    /// A request over its network.
    Request(Request),
}

/// A container's probe with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    action: Action,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Probe {
    /// The probe of a container; `None` when it has none or it is switched off.
    pub fn new(config: Option<&HealthConfig>, shell: Option<&[String]>) -> Option<Self> {
        let config = config?;
        let test = config.test.as_deref()?;
        let action = match test.first()?.as_str() {
            kind @ ("HTTP" | "TCP") => Action::Request(Request::parse(kind, test.get(1)?)?),
            "CMD" if test.len() == 1 => return None,
            "CMD" => Action::Command(test[1..].to_vec()),
            "CMD-SHELL" => {
                let default = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = shell.filter(|shell| !shell.is_empty()).unwrap_or(&default);
                Action::Command(shell.iter().cloned().chain(test.get(1).cloned()).collect())
            }
            _ => return None,
        };
        let duration = |nanos: i64, default| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => default,
        };
        Some(Self {
            action,
            interval: duration(config.interval, DEFAULT_INTERVAL),
            timeout: duration(config.timeout, DEFAULT_TIMEOUT),
            start_period: duration(config.start_period, Duration::ZERO),
            start_interval: duration(config.start_interval, DEFAULT_START_INTERVAL),
            retries: if config.retries > 0 { config.retries } else { DEFAULT_RETRIES },
        })
    }

    /// The wait before the next probe.
    fn wait(&self, status: &str, running_for: Duration) -> Duration {
        match status == STARTING && running_for < self.start_period {
            true => self.start_interval,
            false => self.interval,
        }
    }
}

/// What a result makes of a container's health.
pub fn judge(health: &Health, result: HealthResult, probe: &Probe, running_for: Duration) -> Health {
    let mut next = health.clone();
    if result.exit_code == 0 {
        next.failing_streak = 0;
        next.status = HEALTHY.into();
    } else if next.status != STARTING || running_for >= probe.start_period {
        next.failing_streak += 1;
        if next.failing_streak >= probe.retries {
            next.status = UNHEALTHY.into();
        }
    }
    let results = next.log.get_or_insert_default();
    results.push(result);
    let surplus = results.len().saturating_sub(MAX_RESULTS);
    results.drain(..surplus);
    next
}

/// Starts probing a container that was just started.
pub fn begin(engine: &Arc<Engine>, container: &Arc<Container>) {
    container.lock().record.state.health = None;
    resume(engine, container);
}

/// Goes on probing a container that was taken over.
pub fn resume(engine: &Arc<Engine>, container: &Arc<Container>) {
    let probe = {
        let mut inner = container.lock();
        let config = &inner.record.config;
        let Some(probe) = Probe::new(config.healthcheck.as_ref(), config.shell.as_deref()) else { return };
        let fresh = || Health { status: STARTING.into(), failing_streak: 0, log: Some(Vec::new()) };
        inner.record.state.health.get_or_insert_with(fresh);
        probe
    };
    let task = tokio::spawn(watch(Arc::clone(engine), Arc::clone(container), probe));
    if let Some(earlier) = container.lock().health_task.replace(task.abort_handle()) {
        earlier.abort();
    }
}

/// Stops probing; what ended is neither healthy nor starting.
pub fn end(container: &Container) {
    let mut inner = container.lock();
    if let Some(task) = inner.health_task.take() {
        task.abort();
    }
    if let Some(health) = &mut inner.record.state.health {
        health.status = UNHEALTHY.into();
    }
}

async fn watch(engine: Arc<Engine>, container: Arc<Container>, probe: Probe) {
    loop {
        let (status, running_for) = situation(&container);
        tokio::time::sleep(probe.wait(&status, running_for)).await;
        match container.status() {
            Status::Running => {}
            Status::Paused => continue,
            Status::Created | Status::Restarting | Status::Removing | Status::Exited | Status::Dead => return,
        }
        if let Some(result) = run(&engine, &container, &probe).await {
            record(&engine, &container, result, &probe);
        }
    }
}

fn situation(container: &Container) -> (String, Duration) {
    let inner = container.lock();
    let state = &inner.record.state;
    let status = state.health.as_ref().map_or(STARTING.to_owned(), |health| health.status.clone());
    let started = clock::parse(&state.started_at).unwrap_or_else(Timestamp::now);
    (status, Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default())
}

fn record(engine: &Arc<Engine>, container: &Arc<Container>, result: HealthResult, probe: &Probe) {
    let (_, running_for) = situation(container);
    let (before, after) = {
        let mut inner = container.lock();
        let Some(health) = inner.record.state.health.take() else { return };
        let next = judge(&health, result, probe, running_for);
        let statuses = (health.status.clone(), next.status.clone());
        inner.record.state.health = Some(next);
        statuses
    };
    if before != after {
        let action = format!("health_status: {after}");
        engine.events.emit("container", &action, &container.id, container.event_attributes());
        if let Err(error) = container.persist(&engine.store, false) {
            tracing::warn!(container = %container.id, %error, "record health");
        }
        if after == UNHEALTHY {
            restart::when_unhealthy(engine, container);
        }
    }
}

/// One probe's result; none where the container was paused meanwhile, which says nothing about its health.
async fn run(engine: &Arc<Engine>, container: &Arc<Container>, probe: &Probe) -> Option<HealthResult> {
    let start = clock::now();
    let outcome = match &probe.action {
        Action::Command(command) => run_once(engine, container, command, probe.timeout).await,
        Action::Request(request) => match namespace_of(container, "net") {
            Some(namespace) => Ok(probe::ask(&namespace, request.clone(), probe.timeout).await),
            None => Ok((EXIT_TIMED_OUT, "the container does not run".into())),
        },
    };
    if matches!(outcome, Err(exec::ExecError::Paused(_))) || container.status() == Status::Paused {
        return None;
    }
    let (exit_code, output) =
        outcome.unwrap_or_else(|error| (EXIT_TIMED_OUT, crate::error::error_chain(&error)));
    Some(HealthResult { start, end: clock::now(), exit_code, output })
}

async fn run_once(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    command: &[String],
    timeout: Duration,
) -> Result<(i64, String), exec::ExecError> {
    let request = ExecCreateRequest {
        cmd: Some(command.to_vec()),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecCreateRequest::default()
    };
    let id = exec::create(engine, container, request)?;
    let (_, session) = exec::find(engine, &id)?;
    let session = exec::begin(engine, container, &session, &ExecStartRequest::default()).await?;
    let (reader, writer) = tokio::io::simplex(MAX_OUTPUT);
    let serving = session.serve(Arc::clone(engine), Box::new(tokio::io::empty()), Box::new(writer));
    let collecting = collect(reader);
    let finished = tokio::time::timeout(timeout, async { tokio::join!(serving, collecting).1 }).await;
    let Ok(output) = finished else {
        if let Some(link) = container.link() {
            // A probe that ended in this very moment needs no signal.
            link.tell(
                ShimRequest::Signal { exec_id: Some(id), signal: super::signal::KILL, all: false },
                Vec::new(),
            );
        }
        let text = format!("Health check exceeded timeout ({}s)", timeout.as_secs_f64());
        return Ok((EXIT_TIMED_OUT, text));
    };
    let (_, ended) = exec::find(engine, &id)?;
    let code = match ended.progress() {
        exec::Progress::Ended(code) => i64::from(code),
        exec::Progress::Created | exec::Progress::Running(_) => EXIT_TIMED_OUT,
    };
    Ok((code, output))
}

/// The payloads of a framed stream, up to the limit; the rest is read and dropped.
async fn collect(mut reader: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut decoder = ferry_api::multiplex::Decoder::default();
    let mut output = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        decoder.push(&buffer[..count]);
        while let Ok(Some((_, piece))) = decoder.next_piece() {
            let room = MAX_OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(retries: i64, start_period: u64) -> Probe {
        let config = HealthConfig {
            test: Some(vec!["CMD".into(), "true".into()]),
            retries,
            start_period: i64::try_from(Duration::from_secs(start_period).as_nanos()).unwrap(),
            ..HealthConfig::default()
        };
        Probe::new(Some(&config), None).unwrap()
    }

    /// Results as exit codes at seconds of running; statuses as they follow.
    fn check(probe: &Probe, results: &[(u64, i64, &str)]) {
        let mut health = Health { status: STARTING.into(), ..Health::default() };
        for (seconds, exit_code, expected) in results {
            let result = HealthResult { exit_code: *exit_code, ..HealthResult::default() };
            health = judge(&health, result, probe, Duration::from_secs(*seconds));
            assert_eq!(health.status, *expected, "after {seconds} s");
        }
        assert!(health.log.unwrap().len() <= MAX_RESULTS);
    }

    #[test]
    fn health_follows_results() {
        check(
            &probe(3, 0),
            &[(1, 0, HEALTHY), (2, 1, HEALTHY), (3, 1, HEALTHY), (4, 1, UNHEALTHY), (5, 0, HEALTHY)],
        );
        check(&probe(2, 0), &[(1, 1, STARTING), (2, -1, UNHEALTHY), (3, 1, UNHEALTHY)]);
        check(&probe(1, 10), &[(1, 1, STARTING), (9, 1, STARTING), (10, 1, UNHEALTHY)]);
        check(&probe(1, 10), &[(1, 0, HEALTHY), (2, 1, UNHEALTHY)]);
        check(&probe(1, 0), &[(1, 0, HEALTHY); 9]);
    }

    #[test]
    fn probes_read() {
        let test = |words: &[&str]| HealthConfig {
            test: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            ..HealthConfig::default()
        };
        let command = |words: &[&str]| match Probe::new(Some(&test(words)), None)?.action {
            Action::Command(command) => Some(command),
            Action::Request(_) => None,
        };
        assert_eq!(command(&["CMD", "a", "b"]), Some(vec!["a".into(), "b".into()]));
        assert_eq!(
            command(&["CMD-SHELL", "a || b"]),
            Some(vec!["/bin/sh".into(), "-c".into(), "a || b".into()])
        );
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&[]), None);
        assert_eq!(command(&["CMD"]), None);
        assert!(Probe::new(None, None).is_none());
        let probe = probe(0, 5);
        assert_eq!(probe.retries, DEFAULT_RETRIES);
        assert_eq!(probe.wait(STARTING, Duration::from_secs(1)), DEFAULT_START_INTERVAL);
        assert_eq!(probe.wait(STARTING, Duration::from_secs(6)), DEFAULT_INTERVAL);
        assert_eq!(probe.wait(HEALTHY, Duration::from_secs(1)), DEFAULT_INTERVAL);
    }
}
