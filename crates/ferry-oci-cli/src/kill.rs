//! `kill`, `pause` and `resume`.

use ferry_oci::runtime::LinuxNamespaceType;
use ferry_sys::signal;
use rustix::io::Errno;

use crate::Global;
use crate::arguments::{Flag, parse};
use crate::error::CliError;
use crate::state::{Directory, State, Status};

const FLAGS: &[Flag] = &[Flag::switch("all", "a")];
const SIGKILL: i32 = 9;
/// The highest signal number of the kernel.
const SIGNAL_MAX: i32 = 64;

/// Names without `SIG`, by number from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by number or name.
fn number(text: &str) -> Result<i32, CliError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        _ => NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1),
    };
    let real_time = || {
        let rest = name.strip_prefix("RTMIN")?;
        // As the C library numbers them.
        if rest.is_empty() { Some(34) } else { Some(34 + rest.strip_prefix('+')?.parse::<i32>().ok()?) }
    };
    let given = name.parse::<i32>().ok().or(named).or_else(real_time);
    given
        .filter(|number| (0..=SIGNAL_MAX).contains(number))
        .ok_or_else(|| CliError::usage(format!("unknown signal {text:?}")))
}

/// Runs `kill`.
pub(crate) fn kill(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let (id, signal) = match parsed.arguments.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => return Err(CliError::usage("\"kill\" requires a minimum of 1 argument")),
    };
    let signal = number(signal)?;
    let directory = Directory::open(&global.root, id)?;
    let state = directory.read()?;
    if parsed.has("all") {
        return kill_all(&state, signal);
    }
    if !state.init_lives() {
        return Err(CliError::State("container not running".to_owned()));
    }
    if signal == SIGKILL && !own_pid_namespace(&state)? {
        // Its processes would go on without it.
        return kill_all(&state, signal);
    }
    send(state.init_process_pid, signal)?;
    if signal == SIGKILL
        && directory.status(&state)? == Status::Paused
        && let Some(cgroup) = state.cgroup()?
    {
        cgroup.thaw()?;
    }
    Ok(0)
}

fn own_pid_namespace(state: &State) -> Result<bool, CliError> {
    let spec = state.spec()?;
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    Ok(namespaces.iter().any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none()))
}

fn send(pid: i32, number: i32) -> Result<(), CliError> {
    match signal::kill(pid, number) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(CliError::State("container not running".to_owned())),
        Err(errno) => Err(CliError::other(format!("cannot signal process {pid}: {errno}"))),
    }
}

fn kill_all(state: &State, number: i32) -> Result<i32, CliError> {
    let Some(cgroup) = state.cgroup()? else {
        send(state.init_process_pid, number)?;
        return Ok(0);
    };
    if number == SIGKILL {
        cgroup.kill_all()?;
        return Ok(0);
    }
    for pid in cgroup.processes()? {
        match signal::kill(pid, number) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(CliError::other(format!("cannot signal process {pid}: {errno}"))),
        }
    }
    Ok(0)
}

/// Runs `pause`.
pub(crate) fn pause(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(&[], words)?;
    let directory = Directory::open(&global.root, parsed.id("pause")?)?;
    let state = directory.read()?;
    match directory.status(&state)? {
        Status::Running | Status::Created => {}
        other => {
            return Err(CliError::State(format!("container not running or created: {}", other.name())));
        }
    }
    if let Some(cgroup) = state.cgroup()? {
        cgroup.freeze()?;
    }
    Ok(0)
}

/// Runs `resume`.
pub(crate) fn resume(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(&[], words)?;
    let directory = Directory::open(&global.root, parsed.id("resume")?)?;
    let state = directory.read()?;
    let cgroup = state.cgroup()?;
    let frozen = cgroup.as_ref().map(ferry_runtime::cgroup::Cgroup::is_frozen).transpose()?.unwrap_or(false);
    match cgroup.filter(|_| frozen && state.init_lives()) {
        Some(cgroup) => {
            cgroup.thaw()?;
            Ok(0)
        }
        None => Err(CliError::State("container not paused".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_by_name_and_number() {
        for (text, expected) in
            [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("term", 15), ("RTMIN+3", 37), ("0", 0)]
        {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        assert_eq!(number("NOPE").unwrap_err().to_string(), "unknown signal \"NOPE\"");
        assert!(number("65").is_err());
    }
}
