//! What the launcher is told of a container, worked out from its record.

use std::path::Path;

use ferry_shim::protocol::{LaunchConfig, LogConfig, Rootfs, VERSION, WindowSize};

use super::StartError;
use crate::container::record::Record;
use crate::container::settings::SettingsError;
use crate::container::{Container, etc, logging};
use crate::engine::Engine;
use crate::network::{self, Attachment, NetworkError};
use crate::spec::layered::Layered;
use crate::spec::mounts::MountKind;
use crate::spec::namespaces::{Mode, Namespaces, Sharing, ipc_mode, pid_mode};
use crate::spec::user::{self, Identity};
use crate::spec::{self, SpecInput};

/// Largest `/etc/passwd` or `/etc/group` read from an image.
const MAX_ACCOUNTS: u64 = 16 * 1024 * 1024;

/// Everything a launch needs, worked out from the record.
pub fn prepare(
    engine: &Engine,
    container: &Container,
    attachment: &Attachment,
    generation: u64,
) -> Result<LaunchConfig, StartError> {
    let mut record = container.record();
    provide_sources(&record)?;
    if record.host_config.links.is_some() {
        let mut told = crate::network::link_environment(engine, &record);
        told.extend(record.config.env.take().unwrap_or_default());
        record.config.env = Some(told);
    }
    for plan in record.mounts.iter_mut().filter(|plan| plan.kind == MountKind::Image) {
        plan.layer_paths = engine.store.snapshots().layer_paths(&plan.layers)?;
    }
    crate::secrets::place(engine, &mut record)?;
    let snapshot = engine.store.snapshots().get(&container.id)?;
    let mut layers = vec![snapshot.upper.clone()];
    layers.extend(snapshot.lowers.iter().cloned());
    let identity = identity(&record, &Layered::new(layers))?;
    let namespaces = namespaces(engine, &record, attachment)?;
    let etc = etc::write(engine, container, &record, attachment)?;
    let input =
        SpecInput { record: &record, identity: &identity, namespaces, etc: Some(etc), host: &engine.host };
    let built = spec::build(&input)?;
    let seccomp = match record.host_config.privileged {
        true => None,
        false => engine.seccomp.filter(&built.security.seccomp, &built.capabilities)?,
    };
    let run_dir = engine.run_dir(&container.id);
    std::fs::create_dir_all(&run_dir)
        .map_err(|source| StartError::Write { path: run_dir.clone(), source })?;
    Ok(LaunchConfig {
        version: VERSION,
        id: container.id.clone(),
        generation,
        run_dir,
        data_dir: container.dir.dir().to_path_buf(),
        spec: built.spec,
        rootfs: Rootfs::Overlay {
            lowers: snapshot.lowers,
            upper: snapshot.upper,
            work: snapshot.work,
            volatile: record.host_config.auto_remove,
        },
        seccomp: seccomp.map(|filter| filter.to_string()),
        init: record.host_config.init.unwrap_or(false),
        terminal: record.config.tty.then(|| window(&record)),
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        log: log_config(container, &record)?,
        durable: record.durable(),
        gated: false,
    })
}

fn window(record: &Record) -> WindowSize {
    let [rows, cols] = record.host_config.console_size.map(|size| u16::try_from(size).unwrap_or(0));
    WindowSize { rows, cols }
}

/// How the container's output is kept.
pub(in crate::container) fn log_config(
    container: &Container,
    record: &Record,
) -> Result<LogConfig, SettingsError> {
    let labels = record.config.labels.clone().unwrap_or_default();
    let environment = record.config.env.clone().unwrap_or_default();
    let attributes = logging::attributes(&record.host_config, &labels, &environment);
    logging::config(&record.host_config, &container.dir.log_path(), &attributes)
}

/// Missing sources of `-v` are made as directories, as Docker does; other missing ones are errors.
fn provide_sources(record: &Record) -> Result<(), StartError> {
    for plan in record.mounts.iter().filter(|plan| plan.kind == MountKind::Bind) {
        if Path::new(&plan.source).symlink_metadata().is_ok() {
            continue;
        }
        if !plan.create_source {
            return Err(StartError::NoSource(plan.source.clone()));
        }
        std::fs::create_dir_all(&plan.source)
            .map_err(|source| StartError::MakeSource { path: plan.source.clone(), source })?;
    }
    Ok(())
}

fn identity(record: &Record, layers: &Layered) -> Result<Identity, StartError> {
    account(&record.config.user, record.host_config.group_add.as_deref().unwrap_or_default(), layers)
}

/// Looks a user up in the container's own files.
pub fn account(user: &str, group_add: &[String], layers: &Layered) -> Result<Identity, StartError> {
    let read = |path| -> Result<String, StartError> {
        let bytes = layers.read(path, MAX_ACCOUNTS)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(user::resolve(user, group_add, &read("/etc/passwd")?, &read("/etc/group")?)?)
}

fn namespaces(engine: &Engine, record: &Record, attachment: &Attachment) -> Result<Namespaces, StartError> {
    let config = &record.host_config;
    let pid = pid_mode(&config.pid_mode).map_err(SettingsError::from)?;
    let ipc = ipc_mode(&config.ipc_mode).map_err(SettingsError::from)?;
    Ok(Namespaces {
        network: attachment.namespace.clone(),
        pid: sharing(engine, pid, "PID", "pid")?,
        ipc: sharing(engine, ipc, "IPC", "ipc")?,
    })
}

fn sharing(engine: &Engine, mode: Mode<'_>, kind: &'static str, file: &str) -> Result<Sharing, StartError> {
    match mode {
        Mode::Own => Ok(Sharing::Own),
        Mode::Host => Ok(Sharing::Host),
        Mode::Container(name) => {
            let peer = engine.containers.find(name).map_err(NetworkError::from)?;
            let path = network::namespace_of(&peer, file);
            path.map(Sharing::Path).ok_or_else(|| StartError::PeerNotRunning { kind, name: name.to_owned() })
        }
    }
}
