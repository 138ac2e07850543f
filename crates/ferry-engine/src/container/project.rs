//! Projects without a client: what Compose wrote on its containers holds when policies start them.
//!
//! After a crash or a reboot nobody runs `compose up`. The labels say which services a container needs and how
//! far those must have come; a start by policy waits for that, and runs the hooks that follow a start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::exec::{ExecCreateRequest, ExecStartRequest};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::state::Status;
use super::{Container, exec};
use crate::engine::Engine;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const ONEOFF: &str = "com.docker.compose.oneoff";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Ferry's own: the `post_start` hooks of a service, as JSON.
const POST_START: &str = "dev.ferry.compose.post-start";

/// How long a wait goes without looking.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Code of a hook whose end nobody saw.
const NOT_ENDED: i32 = -1;

/// How far a service must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Started,
    Healthy,
    Completed,
}

/// What a container is to those that need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// As far as it must be.
    Ready,
    /// On its way, or brought back by its policy.
    Coming,
    /// Nothing brings it there without a person; waiting would never end.
    Never,
}

/// A container as far as others wait for it.
#[derive(Debug, Clone)]
struct Seen {
    status: Status,
    /// Its health; none where it has no check.
    health: Option<String>,
    exit_code: i32,
    /// Its own start by policy waits for others.
    waits: bool,
}

/// One hook as the label holds it.
#[derive(Debug, Deserialize)]
struct Hook {
    command: Vec<String>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    working_dir: String,
    #[serde(default)]
    environment: Vec<String>,
}

/// Whether a start by policy has to wait for anything.
pub fn has_dependencies(container: &Container) -> bool {
    label(container, DEPENDS_ON).is_some_and(|text| !text.is_empty())
}

/// Waits until the services that a container needs are as far as its label asks. Returns at once where there
/// is nothing to wait for.
pub async fn dependencies_ready(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (Some(project), Some(text)) = (label(container, PROJECT), label(container, DEPENDS_ON)) else {
        return;
    };
    let needed = parse(&text);
    if needed.is_empty() {
        return;
    }
    // Records tell of the time before a reboot until every container was looked after.
    let mut recovered = engine.recovered.subscribe();
    if recovered.wait_for(|done| *done).await.is_err() {
        return;
    }
    let (_, mut events) = engine.events.subscribe(None);
    let mut told = false;
    loop {
        let waiting = needed.iter().find(|(service, condition)| {
            verdict(&replicas(engine, &project, service), **condition) == Readiness::Coming
        });
        let Some((service, condition)) = waiting else { return };
        if !told {
            tracing::info!(container = %container.id, service, ?condition, "waits for a service it needs");
            told = true;
        }
        // A listener that fell behind looks again, as after any event, and so does one that hears nothing: a
        // start by policy that fails is told to nobody.
        if let Ok(Err(RecvError::Closed)) = tokio::time::timeout(LOOK_AGAIN, events.recv()).await {
            return;
        }
    }
}

/// Runs the hooks that follow a start, where nobody else does.
pub async fn post_start(engine: &Arc<Engine>, container: &Arc<Container>) {
    let Some(text) = label(container, POST_START) else { return };
    let hooks: Vec<Hook> = match serde_json::from_str(&text) {
        Ok(hooks) => hooks,
        Err(error) => {
            tracing::warn!(container = %container.id, %error, "its post_start hooks cannot be read");
            return;
        }
    };
    for hook in hooks {
        let command = hook.command.join(" ");
        match run(engine, container, hook).await {
            Ok(0) => {}
            Ok(code) => {
                tracing::warn!(container = %container.id, command, code, "post_start hook failed");
                return;
            }
            Err(error) => {
                tracing::warn!(container = %container.id, command, %error, "post_start hook");
                return;
            }
        }
    }
}

async fn run(engine: &Arc<Engine>, container: &Arc<Container>, hook: Hook) -> Result<i32, exec::ExecError> {
    let request = ExecCreateRequest {
        user: hook.user,
        privileged: hook.privileged,
        attach_stdout: true,
        attach_stderr: true,
        env: Some(hook.environment),
        working_dir: hook.working_dir,
        cmd: Some(hook.command),
        ..ExecCreateRequest::default()
    };
    let id = exec::create(engine, container, request)?;
    let (_, created) = exec::find(engine, &id)?;
    let session = exec::begin(engine, container, &created, &ExecStartRequest::default()).await?;
    session.serve(Arc::clone(engine), Box::new(tokio::io::empty()), Box::new(tokio::io::sink())).await;
    let (_, ended) = exec::find(engine, &id)?;
    Ok(match ended.progress() {
        exec::Progress::Ended(code) => code,
        exec::Progress::Created | exec::Progress::Running(_) => NOT_ENDED,
    })
}

fn label(container: &Container, key: &str) -> Option<String> {
    container.lock().record.config.labels.as_ref()?.get(key).cloned()
}

/// `db:service_healthy:false,init:service_completed_successfully:true`.
fn parse(text: &str) -> BTreeMap<String, Condition> {
    let one = |part: &str| {
        let mut words = part.split(':');
        let service = words.next().filter(|name| !name.is_empty())?;
        let condition = match words.next() {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            _ => Condition::Started,
        };
        Some((service.to_owned(), condition))
    };
    text.split(',').filter_map(one).collect()
}

fn replicas(engine: &Engine, project: &str, service: &str) -> Vec<Seen> {
    let read = |container: &Arc<Container>| {
        let inner = container.lock();
        let labels = inner.record.config.labels.as_ref()?;
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
        if !is(PROJECT, project) || !is(SERVICE, service) || is(ONEOFF, "True") {
            return None;
        }
        let state = &inner.record.state;
        Some(Seen {
            status: state.status,
            health: state.health.as_ref().map(|health| health.status.clone()),
            exit_code: state.exit_code,
            waits: inner.waits_for_others,
        })
    };
    engine.containers.all().iter().filter_map(read).collect()
}

/// All replicas must be there, but one that completed is enough; those that never come are not waited for.
fn verdict(replicas: &[Seen], condition: Condition) -> Readiness {
    let each: Vec<Readiness> = replicas.iter().map(|seen| readiness(seen, condition)).collect();
    if condition == Condition::Completed && each.contains(&Readiness::Ready) {
        return Readiness::Ready;
    }
    match each.iter().find(|one| **one != Readiness::Ready) {
        None => Readiness::Ready,
        Some(_) if each.contains(&Readiness::Coming) => Readiness::Coming,
        Some(_) => Readiness::Never,
    }
}

fn readiness(seen: &Seen, condition: Condition) -> Readiness {
    let healthy = seen.health.as_deref().is_none_or(|health| health == "healthy" || health == "none");
    match (seen.status, condition) {
        (Status::Running | Status::Paused, Condition::Started) => Readiness::Ready,
        (Status::Running | Status::Paused, Condition::Healthy) if healthy => Readiness::Ready,
        (Status::Running | Status::Paused, Condition::Healthy | Condition::Completed) => Readiness::Coming,
        (Status::Exited, Condition::Completed) if seen.exit_code == 0 => Readiness::Ready,
        (Status::Restarting, _) => Readiness::Coming,
        (Status::Created | Status::Exited | Status::Dead, _) if seen.waits => Readiness::Coming,
        (Status::Created | Status::Exited | Status::Dead | Status::Removing, _) => Readiness::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        let read = parse("db:service_healthy:false,init:service_completed_successfully:true,cache,x:new:y,");
        let read: Vec<_> = read.iter().map(|(name, condition)| (name.as_str(), *condition)).collect();
        let wanted = [
            ("cache", Condition::Started),
            ("db", Condition::Healthy),
            ("init", Condition::Completed),
            ("x", Condition::Started),
        ];
        assert_eq!(read, wanted);
        assert!(parse("").is_empty());
    }

    #[test]
    fn who_is_waited_for() {
        let seen = |status, health: Option<&str>, exit_code, waits| Seen {
            status,
            health: health.map(str::to_owned),
            exit_code,
            waits,
        };
        use Condition::{Completed, Healthy, Started};
        use Readiness::{Coming, Never, Ready};
        for (one, condition, expected) in [
            (seen(Status::Running, None, 0, false), Started, Ready),
            (seen(Status::Running, None, 0, false), Healthy, Ready),
            (seen(Status::Running, Some("starting"), 0, false), Healthy, Coming),
            (seen(Status::Running, Some("unhealthy"), 0, false), Started, Ready),
            (seen(Status::Running, Some("healthy"), 0, false), Healthy, Ready),
            (seen(Status::Running, None, 0, false), Completed, Coming),
            (seen(Status::Exited, None, 0, false), Completed, Ready),
            (seen(Status::Exited, None, 1, false), Completed, Never),
            (seen(Status::Exited, None, 0, false), Started, Never),
            (seen(Status::Exited, None, 0, true), Started, Coming),
            (seen(Status::Restarting, Some("unhealthy"), 1, false), Healthy, Coming),
            (seen(Status::Created, None, 0, false), Healthy, Never),
        ] {
            assert_eq!(verdict(std::slice::from_ref(&one), condition), expected, "{one:?} {condition:?}");
        }
        let two = [seen(Status::Exited, None, 0, false), seen(Status::Exited, None, 1, false)];
        assert_eq!(verdict(&two, Completed), Ready, "one that completed is enough");
        assert_eq!(verdict(&[], Healthy), Ready, "a service without containers");
    }
}
