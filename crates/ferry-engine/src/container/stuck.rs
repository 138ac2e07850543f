//! A monitor that does not answer any more, because somebody stopped it or the kernel holds it: nobody would hear of
//! the container's end. Its container is ended by its cgroup, and then the monitor itself; the engine hears of that
//! by the end of their connection.

use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::ShimRequest;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Container, signal};
use crate::shim::{LinkError, ShimLink};

/// How long a monitor may take to take an order. It does nothing but wait for them.
pub(super) const MONITOR_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to notice that its container has ended, which it reports when it has written it down.
pub(super) const REPORT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one that works may take beyond that: a slow disk must not cost the last lines and the exit code.
const SLOW_PATIENCE: Duration = Duration::from_secs(120);

/// What a monitor calls itself; the beginning of its container's id follows.
const TITLE: &str = "ferry-shim ";

/// Waits for a monitor's answer, but not for ever: not long for one that somebody has stopped, longer for one that the
/// machine keeps from working.
pub async fn answered<T>(
    container: &Container,
    asked: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let mut asked = pin!(asked);
    if let Ok(answer) = tokio::time::timeout(MONITOR_PATIENCE, &mut asked).await {
        return answer;
    }
    match tokio::time::timeout(further_patience(container), asked).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(container)),
    }
}

/// Freezes or thaws; a monitor that answers too late is told to leave it as it was.
pub async fn freeze(container: &Container, link: &ShimLink, on: bool) -> Result<(), LinkError> {
    let frozen = answered(container, link.freeze(on)).await;
    if matches!(frozen, Err(LinkError::Silent { .. })) {
        link.tell(ShimRequest::Freeze(!on), Vec::new());
    }
    frozen
}

fn silent(container: &Container) -> LinkError {
    let monitor = monitor_of(container);
    let error = LinkError::Silent { monitor, stopped: monitor.is_some_and(is_stopped) };
    tracing::warn!(container = %container.id, %error, "a question to a monitor");
    error
}

fn monitor_of(container: &Container) -> Option<i32> {
    let first = container.lock().record.state.pid;
    parent_of(first).filter(|pid| watches(*pid, &container.id))
}

/// Ends a container's monitor. Its processes must have been ended before.
pub(super) fn end_monitor(container: &Arc<Container>) {
    let Some(monitor) = monitor_of(container) else {
        tracing::warn!(container = %container.id, "a monitor that does not answer was not found");
        return;
    };
    let opened = Pid::from_raw(monitor).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let Some(Ok(pidfd)) = opened else { return };
    // The number may have got another owner since it was read.
    if !watches(monitor, &container.id) {
        return;
    }
    tracing::warn!(container = %container.id, monitor, "a monitor does not answer; it is killed");
    if let Err(error) = ferry_sys::monitor::pidfd_send_signal(pidfd.as_fd(), signal::KILL) {
        tracing::debug!(container = %container.id, %error, "kill a monitor");
    }
}

/// How much longer to wait for the monitor's report: not at all for one that is stopped.
pub(super) fn further_patience(container: &Container) -> Duration {
    if monitor_of(container).is_some_and(is_stopped) { Duration::ZERO } else { SLOW_PATIENCE }
}

/// proc_pid_stat(5): `T`, `t`. The name in front may hold anything, parentheses too.
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// The parent of a container's first process is its monitor, which alone can reap it: until then its number is its own.
fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| pid > 1 && *parent > 1)
}

fn watches(pid: i32, id: &str) -> bool {
    let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let title = String::from_utf8_lossy(&title);
    let short = title.split('\0').next().and_then(|title| title.trim_end().strip_prefix(TITLE));
    short.is_some_and(|short| !short.is_empty() && id.starts_with(short))
}
