//! `delete`: what is left of a container goes.

use std::time::{Duration, Instant};

use ferry_oci::runtime::Hooks;
use ferry_runtime::hooks::{self, Described, HookStage};
use ferry_sys::signal::kill;
use rustix::process::Signal;

use crate::Global;
use crate::arguments::{Flag, parse};
use crate::error::CliError;
use crate::state::{Directory, State, Status};

/// How long a killed init may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

const FLAGS: &[Flag] = &[Flag::switch("force", "f")];

/// Runs `delete`.
pub(crate) fn delete(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let force = parsed.has("force");
    let id = parsed.id("delete")?;
    let directory = match Directory::open(&global.root, id) {
        Err(CliError::NoContainer) if force => return Ok(0),
        result => result?,
    };
    let state = match directory.read() {
        // Whoever made it died before it was noted: only the name is left.
        Err(CliError::NoContainer) if force => return directory.remove().map(|()| 0),
        result => result?,
    };
    match directory.status(&state)? {
        Status::Stopped => {}
        // It waits for a start that will not come.
        Status::Created => end(&state)?,
        _ if force => end(&state)?,
        other => {
            return Err(CliError::State(format!(
                "cannot delete container {id} that is not stopped: {}",
                other.name()
            )));
        }
    }
    state.holdings()?.give_back()?;
    directory.remove()?;
    if let Ok(spec) = state.spec()
        && let Some(hooks) = spec.hooks()
    {
        poststop(global, hooks, &state.described());
    }
    Ok(0)
}

/// Kills the init and waits until it has gone.
fn end(state: &State) -> Result<(), CliError> {
    let failed = |errno: rustix::io::Errno| {
        CliError::other(format!("cannot kill process {}: {errno}", state.init_process_pid))
    };
    match kill(state.init_process_pid, Signal::KILL.as_raw()) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => return Err(failed(errno)),
    }
    if let Some(cgroup) = state.cgroup()? {
        // Frozen ones die when they are thawed.
        cgroup.kill_all()?;
    }
    let end = Instant::now() + KILL_TIMEOUT;
    while state.init_lives() {
        if Instant::now() > end {
            return Err(failed(rustix::io::Errno::TIMEDOUT));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Runs the last hooks; by the specification their failure is told and changes nothing.
pub(crate) fn poststop(global: &Global, hooks: &Hooks, described: &Described) {
    let list = HookStage::Poststop.of(hooks);
    if list.is_empty() {
        return;
    }
    if let Err(error) = hooks::run(HookStage::Poststop, list, &described.json("stopped", None)) {
        global.log.warn(&error.to_string());
    }
}
