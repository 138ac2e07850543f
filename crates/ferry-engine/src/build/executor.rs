//! RUN steps: containers with the isolation of `run` that no list shows and no record keeps.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ferry_api::container::{Config, HostConfig, LogConfig as ApiLogConfig, Ulimit};
use ferry_api::multiplex::{Decoder, Stream};
use ferry_build::llb::ops::NetMode;
use ferry_build::solve::{
    BoxFuture, Executor, ExecutorError, MountKind as StepMountKind, OutputSender, RunOutcome, RunStep,
    StepMount, StepOutput,
};
use ferry_shim::protocol::{Rootfs, ShimEvent, ShimRequest};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::clock;
use crate::container::Container;
use crate::container::record::{Record, RunState, VERSION};
use crate::container::{settings, start};
use crate::engine::Engine;
use crate::error::error_chain;
use crate::network;
use crate::shim::ShimLink;
use crate::spec::mounts::{MountKind, MountPlan};

/// Bytes of output read at once.
const CHUNK: usize = 32 * 1024;

/// Signal that ends a canceled step.
const SIGKILL: i32 = 9;

/// Runs steps on an engine.
pub struct StepExecutor {
    engine: Weak<Engine>,
}

impl StepExecutor {
    /// An executor over an engine that may go away first.
    pub fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::downgrade(engine) }
    }
}

impl Executor for StepExecutor {
    fn run(
        &self,
        step: RunStep,
        output: OutputSender,
    ) -> BoxFuture<'static, Result<RunOutcome, ExecutorError>> {
        let engine = self.engine.upgrade();
        Box::pin(async move {
            let engine =
                engine.ok_or_else(|| ExecutorError { message: "the engine is ending".to_owned() })?;
            run(engine, step, output).await
        })
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExecutorError {
    ExecutorError { message: error_chain(error) }
}

async fn run(engine: Arc<Engine>, step: RunStep, output: OutputSender) -> Result<RunOutcome, ExecutorError> {
    let dir = engine.store.containers().create_dir(&step.id).map_err(|error| failed(&error))?;
    let folder = RunDirectory(engine.run_dir(&step.id));
    let secrets = Secrets::place(&folder.0, &step.mounts).map_err(|error| failed(&error))?;
    let container = Container::new(record(&engine, &step, &secrets), dir);
    let attachment = network::attach(&engine, &container).await.map_err(|error| failed(&error))?;
    // What is not in the record is not taken back at the end.
    container.lock().record.endpoints.clone_from(&attachment.endpoints);
    let mut running =
        Running { engine: Arc::clone(&engine), container, link: None, remains: Some((secrets, folder)) };
    let result = running.go(&step, &attachment, output).await;
    running.finish().await;
    result
}

/// A step under way; dropped before its end (the build was canceled) it is killed.
struct Running {
    engine: Arc<Engine>,
    container: Arc<Container>,
    link: Option<ShimLink>,
    /// Secrets, and the folder that they are mounted in: they go in this order.
    remains: Option<(Secrets, RunDirectory)>,
}

impl Running {
    async fn go(
        &mut self,
        step: &RunStep,
        attachment: &network::Attachment,
        output: OutputSender,
    ) -> Result<RunOutcome, ExecutorError> {
        let mut launch =
            start::prepare(&self.engine, &self.container, attachment, 1).map_err(|error| failed(&error))?;
        launch.rootfs = Rootfs::Overlay {
            lowers: step.snapshot.lowers.clone(),
            upper: step.snapshot.upper.clone(),
            work: step.snapshot.work.clone(),
            volatile: true,
        };
        launch.durable = false;
        let (ours, theirs) = ferry_sys::channel::Channel::pair().map_err(|error| failed(&error))?;
        let (link, events) = ShimLink::start(ours).map_err(|error| failed(&error))?;
        let (reader, writer) = UnixStream::pair().map_err(|error| failed(&error))?;
        let writer = writer.into_std().map_err(|error| failed(&error))?;
        let attach = ShimRequest::Attach { exec_id: None, stdin: false, stdout: true, stderr: true };
        link.tell(attach, vec![writer.into()]);
        self.link = Some(link);
        self.engine.launcher.launch(launch, theirs.into_fd()).await.map_err(|error| failed(&error))?;
        let (outcome, ()) = tokio::join!(self.follow(events), forward(reader, output));
        outcome
    }

    /// Waits for the end of the command and then for the end of its monitor, which takes the root's
    /// mount with it.
    async fn follow(
        &self,
        mut events: mpsc::UnboundedReceiver<ShimEvent>,
    ) -> Result<RunOutcome, ExecutorError> {
        let mut outcome = None;
        while let Some(event) = events.recv().await {
            match event {
                ShimEvent::Started { warnings, .. } => {
                    for warning in warnings {
                        tracing::debug!(step = %self.container.id, %warning, "started with less than was asked for");
                    }
                }
                ShimEvent::StartFailed { exit_code, message } => {
                    // What cannot be executed is the command's failure, not the builder's.
                    outcome = Some(match exit_code {
                        126 | 127 => Err(ExecutorError { message }),
                        _ => Err(ExecutorError { message: format!("cannot start the step: {message}") }),
                    });
                }
                ShimEvent::Exited(exit) => {
                    outcome = Some(Ok(RunOutcome { exit_code: exit.exit_code, oom_killed: exit.oom_killed }));
                    if let Some(link) = &self.link {
                        link.tell(ShimRequest::Release, Vec::new());
                    }
                }
                ShimEvent::ExecExited { .. }
                | ShimEvent::Oom
                | ShimEvent::LogTick { .. }
                | ShimEvent::LogTrouble { .. } => {}
            }
        }
        outcome.unwrap_or_else(|| {
            Err(ExecutorError { message: "the step's monitor ended unexpectedly".to_owned() })
        })
    }

    /// Takes back what the step had.
    async fn finish(mut self) {
        self.link = None;
        network::detach(&self.engine, &self.container).await;
        self.remains = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        link.tell(ShimRequest::Signal { exec_id: None, signal: SIGKILL, all: true }, Vec::new());
        link.tell(ShimRequest::Release, Vec::new());
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        let remains = self.remains.take();
        tokio::spawn(async move {
            network::detach(&engine, &container).await;
            drop(link);
            drop(remains);
        });
    }
}

/// A step's folder in the run root; removed when dropped.
struct RunDirectory(PathBuf);

impl Drop for RunDirectory {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "run directory of a build step stays");
            }
        }
    }
}

/// Passes output on; a full channel makes the monitor, and so the command, wait.
async fn forward(mut reader: UnixStream, output: OutputSender) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        decoder.push(&buffer[..length]);
        while let Ok(Some((stream, data))) = decoder.next_piece() {
            let is_error = stream == Stream::Stderr;
            if output.send(StepOutput { is_error, data }).await.is_err() {
                return;
            }
        }
    }
}

fn record(engine: &Engine, step: &RunStep, secrets: &Secrets) -> Record {
    let mut config = Config {
        hostname: step.hostname.clone(),
        user: step.user.clone(),
        env: Some(step.env.clone()),
        cmd: Some(step.args.clone()),
        working_dir: step.cwd.clone(),
        ..Config::default()
    };
    let mut host_config = host_config(step);
    engine.defaults().container.fill_lists(&mut host_config);
    settings::fill_defaults(&mut config, &mut host_config, &step.id, &engine.host);
    let mounts = step.mounts.iter().enumerate().map(|(index, mount)| plan(index, mount, secrets)).collect();
    Record {
        version: VERSION,
        id: step.id.clone(),
        name: format!("build-{}", &step.id[..12]),
        created: clock::now(),
        image_id: String::new(),
        layers: Vec::new(),
        config,
        endpoints: endpoints(&host_config),
        host_config,
        mounts,
        state: RunState { generation: 1, ..RunState::default() },
    }
}

fn endpoints(host_config: &HostConfig) -> BTreeMap<String, ferry_api::container::EndpointSettings> {
    match network::Mode::parse(&host_config.network_mode) {
        network::Mode::Network(name) => BTreeMap::from([(name.to_owned(), Default::default())]),
        _ => BTreeMap::new(),
    }
}

fn host_config(step: &RunStep) -> HostConfig {
    let limits = &step.resources;
    let network_mode = match step.network {
        NetMode::Unset => limits.network.as_deref().unwrap_or("default"),
        NetMode::Host => "host",
        NetMode::None => "none",
    };
    let hosts: Vec<String> =
        step.extra_hosts.iter().map(|host| format!("{}:{}", host.host, host.ip)).collect();
    let ulimits: Vec<Ulimit> = limits
        .ulimits
        .iter()
        .map(|limit| Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft })
        .collect();
    let signed = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
    HostConfig {
        network_mode: network_mode.to_owned(),
        auto_remove: true,
        log_config: ApiLogConfig { kind: "none".to_owned(), ..ApiLogConfig::default() },
        extra_hosts: (!hosts.is_empty()).then_some(hosts),
        privileged: step.privileged,
        memory: limits.memory.unwrap_or(0),
        memory_swap: limits.memory_swap.unwrap_or(0),
        cpu_shares: signed(limits.cpu_shares),
        cpu_period: signed(limits.cpu_period),
        cpu_quota: limits.cpu_quota.unwrap_or(0),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        shm_size: limits.shm_size.unwrap_or(0),
        cgroup_parent: limits.cgroup_parent.clone().unwrap_or_default(),
        ulimits: (!ulimits.is_empty()).then_some(ulimits),
        ..HostConfig::default()
    }
}

fn plan(index: usize, mount: &StepMount, secrets: &Secrets) -> MountPlan {
    let base = MountPlan { destination: ferry_build::path::clean(&mount.target), ..MountPlan::default() };
    let bind = |source: String, read_only: bool| MountPlan {
        kind: MountKind::Bind,
        source,
        read_only,
        propagation: "rprivate".to_owned(),
        ..base.clone()
    };
    match &mount.kind {
        StepMountKind::Path { source, writable } => bind(source.display().to_string(), !writable),
        StepMountKind::Secret { .. } => bind(secrets.path(index).display().to_string(), true),
        StepMountKind::Tmpfs { size } => MountPlan {
            kind: MountKind::Tmpfs,
            tmpfs_options: size.map(|size| format!("size={size}")).into_iter().collect(),
            ..base.clone()
        },
    }
}

/// Secrets of one step, in memory only: a tmpfs that is unmounted with the step.
struct Secrets {
    mounted: Option<PathBuf>,
}

impl Secrets {
    fn place(run_dir: &std::path::Path, mounts: &[StepMount]) -> std::io::Result<Self> {
        let mut secrets = Self { mounted: None };
        if !mounts.iter().any(|mount| matches!(mount.kind, StepMountKind::Secret { .. })) {
            return Ok(secrets);
        }
        let directory = run_dir.join("secrets");
        std::fs::create_dir_all(&directory)?;
        let memory = ferry_sys::mount::FileSystem::open("tmpfs")?;
        memory.set("mode", b"0700")?;
        let mount =
            memory.mount(ferry_sys::mount::Attributes::NO_SUID | ferry_sys::mount::Attributes::NO_DEVICES)?;
        let target = std::fs::File::open(&directory)?;
        ferry_sys::mount::attach(mount.as_fd(), target.as_fd())?;
        secrets.mounted = Some(directory);
        for (index, mount) in mounts.iter().enumerate() {
            if let StepMountKind::Secret { data, mode, uid, gid } = &mount.kind {
                secrets.write(index, data, *mode, *uid, *gid)?;
            }
        }
        Ok(secrets)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.mounted.clone().unwrap_or_default().join(index.to_string())
    }

    fn write(&self, index: usize, data: &[u8], mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(index);
        std::fs::write(&path, data)?;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let Some(path) = self.mounted.take() else { return };
        if let Err(error) = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(path = %path.display(), %error, "secrets of a build step stay mounted");
        }
    }
}
