//! Waiting for conditions: started, healthy, completed.

use super::engine::Engine;
use super::watch::{Watch, next_about};
use super::{ApplyError, Report};
use crate::model::Condition;
use ferry_api::container::Inspect;
use std::time::Duration;

/// Log lines a report shows.
const LOG_LINES: usize = 20;

/// How a container stands to a condition.
#[derive(Debug, PartialEq)]
enum Verdict {
    Met,
    NotYet,
    Failed(String),
}

/// Waits for one container.
pub(super) async fn wait_for(
    engine: &Engine,
    watch: &Watch,
    id: &str,
    condition: Condition,
    path: &[String],
) -> Result<(), ApplyError> {
    // Listening begins before looking, so that nothing falls between.
    let mut listener = watch.subscribe();
    loop {
        let container = match engine.inspect(id).await {
            Ok(container) => container,
            Err(error) => return Err(ApplyError::engine(format!("cannot inspect {id}"))(error)),
        };
        match judge(&container, condition) {
            Verdict::Met => return Ok(()),
            Verdict::NotYet => {}
            Verdict::Failed(headline) => return Err(report(engine, &container, headline, path).await),
        }
        if !next_about(&mut listener, id).await {
            return Err(ApplyError::Setting("the stream of events broke off while waiting".to_owned()));
        }
    }
}

/// Waits that a container stays what it is for a while.
pub(super) async fn stays_up(
    engine: &Engine,
    watch: &Watch,
    id: &str,
    condition: Condition,
    monitor: Duration,
    path: &[String],
) -> Result<(), ApplyError> {
    let mut listener = watch.subscribe();
    let end = tokio::time::Instant::now() + monitor;
    loop {
        let inspected = engine.inspect(id).await;
        let container = inspected.map_err(ApplyError::engine(format!("cannot inspect {id}")))?;
        let verdict = judge(&container, condition);
        match verdict {
            Verdict::Failed(headline) => return Err(report(engine, &container, headline, path).await),
            Verdict::NotYet if container.state.restarting => {
                let headline = format!("container {} restarts", final_name(&container.name));
                return Err(report(engine, &container, headline, path).await);
            }
            Verdict::Met | Verdict::NotYet => {}
        }
        match tokio::time::timeout_at(end, next_about(&mut listener, id)).await {
            Err(_) => return Ok(()),
            Ok(true) => {}
            Ok(false) => {
                return Err(ApplyError::Setting("the stream of events broke off while waiting".to_owned()));
            }
        }
    }
}

fn judge(container: &Inspect, condition: Condition) -> Verdict {
    let state = &container.state;
    let name = final_name(&container.name);
    let ended = matches!(state.status.as_str(), "exited" | "dead");
    let exited = || {
        let oom = if state.oom_killed { " (out of memory)" } else { "" };
        Verdict::Failed(format!("container {name} exited ({}){oom}", state.exit_code))
    };
    match condition {
        Condition::ServiceStarted if state.running => {
            match state.health.as_ref().map(|health| health.status.as_str()) {
                _ if state.restarting => Verdict::NotYet,
                _ => Verdict::Met,
            }
        }
        Condition::ServiceStarted if ended => exited(),
        Condition::ServiceStarted => Verdict::NotYet,
        Condition::ServiceHealthy => match state.health.as_ref().map(|health| health.status.as_str()) {
            Some("healthy") if state.running => Verdict::Met,
            _ if ended => exited(),
            Some("unhealthy") => Verdict::Failed(format!("container {name} is unhealthy")),
            None | Some("none" | "") if state.running => {
                Verdict::Failed(format!("container {name} has no healthcheck configured"))
            }
            _ => Verdict::NotYet,
        },
        Condition::ServiceCompletedSuccessfully if ended && state.exit_code == 0 => Verdict::Met,
        Condition::ServiceCompletedSuccessfully if ended => {
            let oom = if state.oom_killed { " (out of memory)" } else { "" };
            Verdict::Failed(format!(
                "container {name} didn't complete successfully: exit {}{oom}",
                state.exit_code
            ))
        }
        Condition::ServiceCompletedSuccessfully => Verdict::NotYet,
    }
}

/// The name that a container is to have: one that replaces another has a temporary one first.
fn final_name(name: &str) -> &str {
    let name = name.trim_start_matches('/');
    let temporary =
        |(id, _): &(&str, &str)| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('_').filter(temporary).map_or(name, |(_, rest)| rest)
}

/// The report of a container that failed.
pub(super) async fn report(
    engine: &Engine,
    container: &Inspect,
    headline: String,
    path: &[String],
) -> ApplyError {
    let results = container.state.health.as_ref().and_then(|health| health.log.as_ref());
    let health = results
        .into_iter()
        .flatten()
        .rev()
        .take(2)
        .map(|result| format!("exit {}: {}", result.exit_code, result.output.trim_end()))
        .collect();
    // The report must not fail because the log cannot be read.
    let log = engine.last_lines(&container.id, LOG_LINES, container.config.tty).await.unwrap_or_default();
    ApplyError::Container(Box::new(Report { headline, path: path.to_vec(), health, log }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::container::{Health, State};

    fn container(status: &str, exit_code: i64, health: Option<&str>) -> Inspect {
        let health = health.map(|status| Health { status: status.to_owned(), ..Health::default() });
        let running = status == "running";
        let state = State { status: status.to_owned(), running, exit_code, health, ..State::default() };
        Inspect { name: "/c".to_owned(), state, ..Inspect::default() }
    }

    #[test]
    fn verdicts() {
        use Condition::{
            ServiceCompletedSuccessfully as Completed, ServiceHealthy as Healthy, ServiceStarted as Started,
        };
        let failed = |text: &str| Verdict::Failed(text.to_owned());
        for (container, condition, expected) in [
            (container("running", 0, None), Started, Verdict::Met),
            (container("created", 0, None), Started, Verdict::NotYet),
            (container("exited", 3, None), Started, failed("container c exited (3)")),
            (container("running", 0, Some("healthy")), Healthy, Verdict::Met),
            (container("running", 0, Some("starting")), Healthy, Verdict::NotYet),
            (container("running", 0, Some("unhealthy")), Healthy, failed("container c is unhealthy")),
            (container("running", 0, None), Healthy, failed("container c has no healthcheck configured")),
            (container("exited", 1, Some("starting")), Healthy, failed("container c exited (1)")),
            (container("running", 0, None), Completed, Verdict::NotYet),
            (container("exited", 0, None), Completed, Verdict::Met),
            (
                container("exited", 2, None),
                Completed,
                failed("container c didn't complete successfully: exit 2"),
            ),
        ] {
            assert_eq!(judge(&container, condition), expected, "{} {condition:?}", container.state.status);
        }
    }
}
