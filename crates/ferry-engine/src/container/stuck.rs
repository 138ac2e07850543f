//! A monitor that does not answer any more, because somebody stopped it or the kernel holds it: nobody would hear of
//! the container's end. Its container is ended by its cgroup, and then the monitor itself; the engine hears of that
//! by the end of their connection.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Container, signal};

/// How long a monitor may take to take an order. It does nothing but wait for them.
pub(super) const MONITOR_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to notice that its container has ended, which it reports when it has written it down.
pub(super) const REPORT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one that works may take beyond that: a slow disk must not cost the last lines and the exit code.
const SLOW_PATIENCE: Duration = Duration::from_secs(120);

/// What a monitor calls itself; the beginning of its container's id follows.
const TITLE: &str = "ferry-shim ";

/// Ends a container's monitor. Its processes must have been ended before.
pub(super) fn end_monitor(container: &Arc<Container>) {
    let first = container.lock().record.state.pid;
    let Some(monitor) = parent_of(first).filter(|pid| watches(*pid, &container.id)) else {
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

/// How much longer to wait for the monitor's report: not at all for one that is stopped (proc_pid_stat(5): `T`, `t`).
pub(super) fn further_patience(container: &Container) -> Duration {
    let first = container.lock().record.state.pid;
    let stat =
        parent_of(first).and_then(|monitor| std::fs::read_to_string(format!("/proc/{monitor}/stat")).ok());
    // The name in front may hold anything, parentheses too.
    let state =
        stat.as_deref().and_then(|stat| stat.rsplit_once(") ")).and_then(|(_, rest)| rest.chars().next());
    if matches!(state, Some('T' | 't')) { Duration::ZERO } else { SLOW_PATIENCE }
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
