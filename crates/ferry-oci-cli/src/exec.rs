//! `exec`: a further process in a running container.

use std::os::fd::AsFd as _;

use ferry_oci::runtime::{Capabilities, Process, Spec};
use ferry_runtime::{ExecRequest, capability};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Global;
use crate::arguments::{Flag, Parsed, parse};
use crate::create::{hand_out_console, preserved_count, stdio, take_descriptors, write_pid_file};
use crate::error::CliError;
use crate::foreground::{self, Watched};
use crate::state::{Directory, State, Status};

const FLAGS: &[Flag] = &[
    Flag::value("console-socket", ""),
    Flag::value("cwd", ""),
    Flag::value("env", "e"),
    Flag::switch("tty", "t"),
    Flag::value("user", "u"),
    Flag::value("additional-gids", "g"),
    Flag::value("process", "p"),
    Flag::switch("detach", "d"),
    Flag::value("pid-file", ""),
    Flag::value("process-label", ""),
    Flag::value("apparmor", ""),
    Flag::switch("no-new-privs", ""),
    Flag::value("cap", "c"),
    Flag::value("preserve-fds", ""),
    Flag::value("cgroup", ""),
    Flag::switch("ignore-paused", ""),
    Flag::switch("no-subreaper", ""),
];

/// Runs `exec`.
pub(crate) fn exec(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let Some((id, command)) = parsed.arguments.split_first() else {
        return Err(CliError::usage("\"exec\" requires a minimum of 1 argument"));
    };
    let directory = Directory::open(&global.root, id)?;
    let state = directory.read()?;
    match directory.status(&state)? {
        Status::Stopped => return Err(CliError::State("cannot exec in a stopped container".to_owned())),
        Status::Paused if !parsed.has("ignore-paused") => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(CliError::State(text.to_owned()));
        }
        _ => {}
    }
    let spec = state.spec()?;
    let process = process(&parsed, &spec, command)?;
    let detach = parsed.has("detach");
    let signals = if detach { None } else { Some(foreground::signals()?) };
    let mut started = start(global, &parsed, &state, &spec, process)?;
    for warning in &started.warnings {
        global.log.warn(warning);
    }
    if parsed.value("console-socket").is_some() {
        hand_out_console(&parsed, started.console.take().as_ref())?;
    }
    write_pid_file(&parsed, started.pid)?;
    let Some(signals) = signals else { return Ok(0) };
    let watched = Watched { pid: started.pid, pidfd: started.pidfd.as_fd(), console: started.console.take() };
    foreground::follow(watched, &signals)
}

fn start(
    global: &Global,
    parsed: &Parsed,
    state: &State,
    spec: &Spec,
    process: Process,
) -> Result<ferry_runtime::Process, CliError> {
    let pid = state.init_process_pid;
    let gone = || CliError::State("cannot exec in a stopped container".to_owned());
    let pidfd = Pid::from_raw(pid).ok_or_else(gone)?;
    let pidfd = pidfd_open(pidfd, PidfdFlags::empty()).map_err(|_| gone())?;
    if !state.init_lives() {
        return Err(gone());
    }
    let cgroup = match parsed.value("cgroup") {
        None => state.cgroup()?,
        Some(below) => Some(cgroup_below(state, below)?),
    };
    let size = process.console_size().map(|size| (size.height(), size.width()));
    let socket = parsed.value("console-socket").is_some();
    let terminal = process.terminal().unwrap_or(false);
    let stdio = stdio(terminal, size, socket, parsed.has("detach"), global.called)?;
    let (listening, more) = preserved_count(parsed)?;
    let preserved = take_descriptors(listening + more)?;
    Ok(ferry_runtime::exec(ExecRequest {
        pid,
        pidfd: pidfd.as_fd(),
        process,
        stdio,
        cgroup: cgroup.as_ref(),
        seccomp: None,
        linux: spec.linux().as_ref(),
        described: state.described(),
        preserved,
        faults: None,
    })?)
}

/// A cgroup below the container's own, which must be there.
fn cgroup_below(state: &State, below: &str) -> Result<ferry_runtime::cgroup::Cgroup, CliError> {
    if below.contains(':') {
        return Err(CliError::usage(format!(
            "--cgroup {below}: one path for all controllers is supported only"
        )));
    }
    let own = state.cgroup_path.as_deref().ok_or_else(|| CliError::other("the container has no cgroup"))?;
    Ok(ferry_runtime::cgroup::Cgroup::open(&format!("{own}/{below}"))?)
}

/// What is to run: a process of its own description, or the container's with changes.
fn process(parsed: &Parsed, spec: &Spec, command: &[String]) -> Result<Process, CliError> {
    if let Some(path) = parsed.value("process") {
        let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
        return serde_json::from_str(&text)
            .map_err(|source| CliError::Json { path: path.to_owned(), source });
    }
    if command.is_empty() {
        return Err(CliError::usage("process args cannot be empty"));
    }
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(parsed.has("tty")));
    process.set_console_size(None);
    if let Some(directory) = parsed.value("cwd") {
        process.set_cwd(directory.into());
    }
    process.env_mut().get_or_insert_default().extend(parsed.values("env").map(str::to_owned));
    if let Some(profile) = parsed.value("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = parsed.value("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if parsed.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(parsed.has("no-new-privs")));
    }
    set_user(parsed, &mut process)?;
    add_capabilities(parsed, &mut process)?;
    Ok(process)
}

fn set_user(parsed: &Parsed, process: &mut Process) -> Result<(), CliError> {
    let number = |what: &str, text: &str| -> Result<u32, CliError> {
        text.parse().map_err(|_| CliError::usage(format!("parsing {text:?} as {what}: not a number")))
    };
    if let Some(user) = parsed.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user_mut().set_uid(number("a user", uid)?);
        if let Some(gid) = gid {
            process.user_mut().set_gid(number("a group", gid)?);
        }
    }
    let mut groups = process.user().additional_gids().clone().unwrap_or_default();
    for group in parsed.values("additional-gids") {
        groups.push(number("a group", group)?);
    }
    process.user_mut().set_additional_gids(Some(groups));
    Ok(())
}

fn add_capabilities(parsed: &Parsed, process: &mut Process) -> Result<(), CliError> {
    for name in parsed.values("cap") {
        let added = capability::parse(name).map_err(|error| CliError::usage(error.to_string()))?;
        // The type's own default is not empty.
        let before = match process.capabilities() {
            Some(sets) => sets.clone(),
            None => serde_json::from_str("{}").expect("every set may be missing"),
        };
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(added);
            Some(set)
        };
        let mut sets = before.clone();
        sets.set_bounding(with(before.bounding()));
        sets.set_effective(with(before.effective()));
        sets.set_permitted(with(before.permitted()));
        process.set_capabilities(Some(sets));
    }
    Ok(())
}
