//! RUN: a snapshot, its mounts, the command, and a layer of what it wrote.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ferry_oci::Digest;
use ferry_store::{LayerRecord, Scratch, Store};
use tokio::sync::OwnedMutexGuard;

use super::error::SolveError;
use super::executor::{Executor, MountKind, OutputSender, RunStep, StepMount};
use super::files::StepSnapshot;
use super::inputs::BuildInputs;
use super::mounts::{MountSource, ReadyMounts};
use super::time::StepTime;
use crate::fileop::FileError;
use crate::llb::ops::{ExecOp, Mount, NetMode, ProxyEnv, SecurityMode};
use crate::lower::Resources;

/// Files and directories that every container's own mounts cover; in the lowest layer, so that they
/// are not made in the step's.
const COVERED_DIRECTORIES: [&str; 3] = ["proc", "sys", "dev"];
const COVERED_FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// A command with everything it needs.
pub struct ExecStep {
    /// Layers of the root, lowest first.
    pub base: Vec<Digest>,
    /// The operation.
    pub exec: ExecOp,
    /// Each mount but the root with what it shows.
    pub mounts: Vec<(Mount, MountSource)>,
    /// What the caller brought.
    pub inputs: Arc<BuildInputs>,
    /// Limits.
    pub resources: Resources,
    /// What time its files get.
    pub time: StepTime,
    /// Caches held for this command alone.
    pub guards: Vec<OwnedMutexGuard<()>>,
}

/// Directories and mounts, ready for the command.
struct Ready {
    step: StepSnapshot,
    mounts: ReadyMounts,
    /// The lowest layer.
    _stubs: Scratch,
    run: RunStep,
}

impl ExecStep {
    /// Runs the command and makes the layer.
    pub async fn run(
        self,
        store: &Arc<Store>,
        executor: &Arc<dyn Executor>,
        output: OutputSender,
        canceled: Arc<AtomicBool>,
    ) -> Result<Option<Arc<LayerRecord>>, SolveError> {
        let command = self.exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default();
        let time = self.time;
        let preparing = Arc::clone(store);
        let ready = blocking(move || self.prepare(&preparing, &canceled)).await?;
        let outcome = executor.run(ready.run.clone(), output).await;
        let outcome = outcome.map_err(|source| SolveError::Run { command: command.clone(), source })?;
        if outcome.exit_code != 0 {
            let (exit_code, oom_killed) = (outcome.exit_code, outcome.oom_killed);
            return Err(SolveError::Exit { command, exit_code, oom_killed });
        }
        blocking(move || {
            drop(ready.mounts);
            time.settle(&ready.step.snapshot.upper)?;
            ready.step.commit()
        })
        .await
    }

    fn prepare(self, store: &Arc<Store>, canceled: &AtomicBool) -> Result<Ready, SolveError> {
        let step = StepSnapshot::prepare(store, &self.base)?;
        let mut ready = ReadyMounts::with_locks(self.guards);
        for (mount, source) in self.mounts {
            ready.add(store, &mount, source, &self.inputs, canceled)?;
        }
        let stubs = make_stubs(store, &ready.mounts)?;
        let mut snapshot = step.snapshot.clone();
        snapshot.lowers.push(stubs.path().to_owned());
        let meta = self.exec.meta.unwrap_or_default();
        let mut env = meta.env;
        add_secrets(&mut env, &self.exec.secret_env, &self.inputs)?;
        add_proxies(&mut env, meta.proxy_env.as_ref());
        let run = RunStep {
            id: step.id().to_owned(),
            snapshot,
            args: meta.args,
            env,
            cwd: meta.cwd,
            user: meta.user,
            hostname: meta.hostname,
            mounts: ready.mounts.clone(),
            network: NetMode::try_from(self.exec.network).unwrap_or(NetMode::Unset),
            privileged: self.exec.security == SecurityMode::Insecure as i32,
            extra_hosts: meta.extra_hosts,
            resources: self.resources,
        };
        Ok(Ready { step, mounts: ready, _stubs: stubs, run })
    }
}

/// Runs blocking work on its own thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SolveError> + Send + 'static,
) -> Result<T, SolveError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SolveError::Worker(error.to_string()))?
}

fn add_secrets(
    env: &mut Vec<String>,
    wanted: &[crate::llb::ops::SecretEnv],
    inputs: &BuildInputs,
) -> Result<(), SolveError> {
    for secret in wanted {
        match inputs.secrets.get(&secret.id) {
            Some(value) => env.push(format!("{}={}", secret.name, String::from_utf8_lossy(&value.0))),
            None if secret.optional => {}
            None => return Err(SolveError::NoSecret(secret.id.clone())),
        }
    }
    Ok(())
}

/// Proxy variables in both spellings, behind those of the image.
fn add_proxies(env: &mut Vec<String>, proxies: Option<&ProxyEnv>) {
    let Some(proxies) = proxies else { return };
    let pairs = [
        ("HTTP_PROXY", &proxies.http_proxy),
        ("HTTPS_PROXY", &proxies.https_proxy),
        ("FTP_PROXY", &proxies.ftp_proxy),
        ("NO_PROXY", &proxies.no_proxy),
        ("ALL_PROXY", &proxies.all_proxy),
    ];
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        env.push(format!("{name}={value}"));
        env.push(format!("{}={value}", name.to_ascii_lowercase()));
    }
}

/// The lowest layer of a command: the places that its mounts cover. Without it the runtime would make
/// them in the step's own layer, where they would stay.
fn make_stubs(store: &Arc<Store>, mounts: &[StepMount]) -> Result<Scratch, SolveError> {
    let scratch = store.scratch()?;
    let make = |path: &str, is_file: bool| -> Result<(), FileError> {
        let path = scratch.path().join(path.trim_start_matches('/'));
        let directory = if is_file { path.parent().unwrap_or(&path) } else { &path };
        std::fs::create_dir_all(directory).map_err(FileError::io("make the directory", directory))?;
        match is_file && !path.exists() {
            true => std::fs::write(&path, b"").map_err(FileError::io("make the file", &path)),
            false => Ok(()),
        }
    };
    for directory in COVERED_DIRECTORIES {
        make(directory, false)?;
    }
    for file in COVERED_FILES {
        make(file, true)?;
    }
    for mount in mounts {
        let is_file = match &mount.kind {
            MountKind::Path { source, .. } => !source.is_dir(),
            MountKind::Tmpfs { .. } => false,
            MountKind::Secret { .. } => true,
        };
        make(&crate::path::clean(&mount.target), is_file)?;
    }
    open_for_all(scratch.path())?;
    Ok(scratch)
}

/// The root and what is in it must be searchable by any user of the container.
fn open_for_all(root: &Path) -> Result<(), SolveError> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root, permissions).map_err(FileError::io("set the permissions of", root))?;
    Ok(())
}
