//! Hooks: commands that a specification wants run around a container's life.
//!
//! Owns how one is run (state on its stdin, no environment but its own, an end when its time is over) and what its
//! failure says. When they run is the business of `create`.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ferry_oci::runtime::{Hook, Hooks};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::error::shorten;

/// How much of a hook's output an error shows.
const OUTPUT_MAX: u64 = 1024;
/// First and last pause between two looks at a hook that has a time limit.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookStage {
    /// Before the root is entered, in the runtime's namespaces; superseded by the next.
    Prestart,
    /// Before the root is entered, in the runtime's namespaces.
    CreateRuntime,
    /// Before the root is entered, in the container's namespaces.
    CreateContainer,
    /// Just before the command, in the container.
    StartContainer,
    /// After the command runs, in the runtime's namespaces.
    Poststart,
    /// After the container has gone.
    Poststop,
}

impl HookStage {
    /// The specification's hooks of this stage.
    pub fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            HookStage::Prestart => hooks.prestart(),
            HookStage::CreateRuntime => hooks.create_runtime(),
            HookStage::CreateContainer => hooks.create_container(),
            HookStage::StartContainer => hooks.start_container(),
            HookStage::Poststart => hooks.poststart(),
            HookStage::Poststop => hooks.poststop(),
        }
        .as_deref()
        .unwrap_or_default()
    }

    fn name(self) -> &'static str {
        match self {
            HookStage::Prestart => "prestart",
            HookStage::CreateRuntime => "createRuntime",
            HookStage::CreateContainer => "createContainer",
            HookStage::StartContainer => "startContainer",
            HookStage::Poststart => "poststart",
            HookStage::Poststop => "poststop",
        }
    }
}

/// A hook that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("error running {stage} hook #{index} {path}: {reason}")]
pub struct HookError {
    /// Its stage, as the specification names it.
    pub stage: String,
    /// Its place in the stage's list.
    pub index: usize,
    /// The command.
    pub path: String,
    /// What went wrong, with the end of what it printed.
    pub reason: String,
}

/// Runs the hooks of a stage in their order; the first failure ends it. `state` is what they read.
pub fn run(stage: HookStage, hooks: &[Hook], state: &[u8]) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|reason| HookError {
            stage: stage.name().to_owned(),
            index,
            path: shorten(hook.path().display().to_string()),
            reason,
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    // A file, and not a pipe: what a hook leaves running in the background must not hold the container up.
    let mut output = memory_file().map_err(|error| format!("its output: {error}"))?;
    let mut child = spawn(hook, &output).map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(state);
    }
    let status = wait(&mut child, hook.timeout()).map_err(|error| error.to_string())?;
    match status {
        None => Err(format!("still running after its {} s", hook.timeout().unwrap_or_default())),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}{}", said(&mut output))),
    }
}

fn memory_file() -> std::io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?))
}

fn spawn(hook: &Hook, output: &File) -> std::io::Result<Child> {
    let arguments = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = arguments.split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(arguments);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(name, value);
    }
    command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output.try_clone()?).spawn()
}

/// Waits for the end of a hook; `None` when its time is over, and then it is killed.
fn wait(child: &mut Child, seconds: Option<i64>) -> std::io::Result<Option<ExitStatus>> {
    let Some(seconds) = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|limit| *limit > 0)
    else {
        return child.wait().map(Some);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut pause = PAUSES.0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// The end of what a hook printed.
fn said(output: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = output.seek(std::io::SeekFrom::End(0)).unwrap_or(0);
    let from = std::io::SeekFrom::Start(length.saturating_sub(OUTPUT_MAX));
    if output.seek(from).is_err() || output.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    match String::from_utf8_lossy(&bytes).trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// A container as its hooks and others that watch it are told about it.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The version of the specification that `config.json` names.
    pub version: String,
    /// The container's id.
    pub id: String,
    /// Where its bundle is.
    pub bundle: PathBuf,
    /// `annotations` of the specification.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The state of a container in the specification's form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: &'a std::collections::BTreeMap<String, String>,
}

impl Described {
    /// The state now.
    pub fn state<'a>(&'a self, status: &'a str, pid: Option<i32>) -> StateDocument<'a> {
        StateDocument {
            oci_version: &self.version,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// The same as JSON.
    pub fn json(&self, status: &str, pid: Option<i32>) -> Vec<u8> {
        serde_json::to_vec(&self.state(status, pid)).expect("strings and a number always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path(PathBuf::from("/bin/sh"));
        hook.set_args(Some(["sh", "-c", script].map(str::to_owned).to_vec()));
        hook.set_timeout(timeout);
        hook
    }

    #[test]
    fn failures_say_which_and_why() {
        let hooks = [hook("exit 0", None), hook("echo no luck >&2; exit 3", None)];
        let error = run(HookStage::CreateRuntime, &hooks, b"{}").unwrap_err();
        assert_eq!(error.to_string(), "error running createRuntime hook #1 /bin/sh: exit status: 3: no luck");
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_environment_alone() {
        let described = Described { id: "x".to_owned(), ..Described::default() };
        let state = described.json("creating", Some(7));
        let hook =
            hook("test -z \"$HOME\" && grep -q '\"id\":\"x\",\"status\":\"creating\",\"pid\":7'", None);
        assert_eq!(run(HookStage::Poststart, &[hook], &state), Ok(()));
    }

    #[test]
    fn time_is_limited_and_what_stays_behind_does_not_hold_up() {
        let error = run(HookStage::Poststop, &[hook("sleep 60", Some(1))], b"").unwrap_err();
        assert!(error.reason.contains("still running after its 1 s"), "{error}");
        assert_eq!(run(HookStage::Poststop, &[hook("sleep 2 &", None)], b""), Ok(()));
    }
}
