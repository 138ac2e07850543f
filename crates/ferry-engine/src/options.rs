//! Starting and stopping the engine process: options, runtime, listeners, signals.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::defaults::Defaults;
use crate::engine::Engine;
use crate::registries::RegistryOptions;
use crate::server;
use crate::server::listen::Listener;
use crate::server::tls::ServerTls;

/// Threads that run tasks: the engine waits far more than it works.
const WORKERS: usize = 2;
/// Threads for calls that block on disk; each keeps its stack while it lives.
const BLOCKING_THREADS: usize = 16;
/// Stack of every thread.
const STACK: usize = 1024 * 1024;

/// What the engine is started with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where images, containers and volumes are kept.
    pub data_root: PathBuf,
    /// Where sockets and other things that end with the boot are kept.
    pub run_root: PathBuf,
    /// Addresses to listen on: `tcp://ADDRESS:PORT`, and `unix://PATH` when nothing is inherited.
    pub hosts: Vec<String>,
    /// What is known not to work here; told in `info`.
    pub warnings: Vec<String>,
    /// TLS on TCP addresses.
    pub tls: Option<ServerTls>,
    /// Listening sockets inherited from the keeper.
    pub listen_fds: Vec<RawFd>,
    /// Host address of ports published without one; every address when absent.
    pub publish_address: Option<std::net::IpAddr>,
    /// Where `NAME.ferry.localhost` of every running container is kept; nowhere when absent.
    pub names_file: Option<PathBuf>,
    /// Published ports obey the host's own input policy (ufw, firewalld) at the price of a proxy.
    pub publish_through_input_policy: bool,
    /// What is said about registries on the command line.
    pub registries: RegistryOptions,
}

/// Environment variable that chooses what is logged, in the form `info,ferry_engine=debug`.
const LOG_VARIABLE: &str = "FERRY_LOG";

type LogSwitch =
    tracing_subscriber::reload::Handle<tracing_subscriber::EnvFilter, tracing_subscriber::Registry>;

/// What changes the amount of logging.
static LOG_SWITCH: OnceLock<LogSwitch> = OnceLock::new();

/// Logs as much as the settings say; the environment has the last word.
pub fn log_as(defaults: &Defaults) {
    if let Some(switch) = LOG_SWITCH.get()
        && std::env::var_os(LOG_VARIABLE).is_none()
        && let Err(error) = switch.reload(tracing_subscriber::EnvFilter::new(defaults.log_filter()))
    {
        tracing::warn!(%error, "change what is logged");
    }
}

/// Sends what the engine has to say to standard error, where its keeper or the person reads it.
fn start_logging() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env(LOG_VARIABLE)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let (filter, switch) = tracing_subscriber::reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Fails when the program set up its own; then that one is meant.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = LOG_SWITCH.set(switch);
    }
}

/// Runs the engine until it is asked to stop (SIGTERM, SIGINT). Containers go on without it.
pub fn run(options: EngineOptions) -> anyhow::Result<i32> {
    start_logging();
    ferry_sys::monitor::return_large_buffers();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .thread_name("ferry-engine")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let code = runtime.block_on(serve(options));
    // Requests that still wait for a container must not hold the process up.
    runtime.shutdown_background();
    code
}

async fn serve(options: EngineOptions) -> anyhow::Result<i32> {
    // Before anything else: a signal in the first moments must neither be lost nor end what is half open.
    let mut signals = Signals::new()?;
    let listeners = listen(&options).await?;
    tell_what_is_ignored(&options.registries);
    let engine = Engine::open(options).await?;
    log_as(&engine.defaults());
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::task::JoinSet::new();
    for listener in listeners {
        serving.spawn(server::serve(listener, Arc::clone(&engine), stopped.clone()));
    }
    server::sockets::restore(&engine).await;
    tracing::info!("engine ready");
    signals.until_stop(&engine).await;
    // Sending fails only when every listener is gone already.
    let _ = stop.send(true);
    while serving.join_next().await.is_some() {}
    engine.close();
    Ok(0)
}

async fn listen(options: &EngineOptions) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for fd in &options.listen_fds {
        let owned =
            ferry_sys::descriptor::inherited(*fd).with_context(|| format!("take over socket {fd}"))?;
        listeners.push(Listener::inherited(owned)?);
    }
    let inherited = !listeners.is_empty();
    for host in options.hosts.iter().filter(|host| !(inherited && host.starts_with("unix://"))) {
        listeners.push(Listener::bind(host, options.tls.as_ref()).await?);
    }
    anyhow::ensure!(!listeners.is_empty(), "nothing to listen on: no --host and no inherited socket");
    Ok(listeners)
}

/// The signals that mean something to an engine.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("handle SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("handle SIGHUP")?,
        })
    }

    /// Waits for SIGTERM or SIGINT. SIGHUP makes the engine read `daemon.json` again, as it does with Docker's daemon.
    async fn until_stop(&mut self, engine: &Engine) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(engine),
            }
        }
    }
}

/// Settings of Docker's that were read and mean nothing here.
fn tell_what_is_ignored(options: &RegistryOptions) {
    for (key, instead) in crate::registries::without_effect(options) {
        tracing::warn!("daemon.json: `{key}` has no effect: {instead}");
    }
}

fn reload(engine: &Engine) {
    match engine.reload() {
        Ok(()) => tracing::info!("read the settings again"),
        Err(error) => {
            tracing::error!("the settings stay as they were: {}", crate::error::error_chain(&error))
        }
    }
}
