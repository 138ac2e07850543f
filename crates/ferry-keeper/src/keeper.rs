//! The keeper's life: lock, sockets, then watching two processes until told to stop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_shim::clock::monotonic_ms;
use ferry_shim::poll::PollSet;
use ferry_sys::channel::{self, Channel};
use ferry_sys::clone::clone3;
use ferry_sys::monitor::{SignalFd, sealed_self};
use ferry_sys::namespace::Namespaces;
use rustix::event::PollFlags;
use rustix::process::{Signal, WaitOptions, wait};

use crate::child::{Kept, Role, Spawner, program_on_disk};
use crate::listen::{self, ListenError};
use crate::options::KeeperOptions;
use crate::protocol::{KEEPER_SOCKET, KeeperReply, KeeperRequest, KeeperStatus, VERSION};
use crate::rootless::{self, RootlessError};
use crate::{daemon, log, notify, pidfile};

/// Connections beyond this are refused.
const MAX_CONNECTIONS: usize = 32;
/// How long the engine may take to end when a signal asks the keeper to.
const STOP_MS: u64 = 20_000;
/// How long a keeper that starts or ends may hold the lock without being there.
const LOCK_MS: u64 = 10_000;
/// What an engine leaves in the run root: which keeper it belongs to, and the folder of its containers' sockets.
const ENGINE_OWNER: &str = "engine.owner";
const CONTAINERS: &str = "containers";
/// A keeper without work for so long makes itself small.
const IDLE: Duration = Duration::from_secs(5);
/// How long a new keeper waits for the sockets that its starter hands over.
const HAND_OVER_MS: u64 = 10_000;

/// Why a keeper could not start.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another one lives.
    #[error("ferry already runs for {} (process {pid})", run_root.display())]
    Running {
        /// The run root.
        run_root: PathBuf,
        /// The other keeper.
        pid: i32,
    },
    /// The API socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Namespaces and mounts would all be refused.
    #[error("the engine needs the privileges of root: this process lacks CAP_SYS_ADMIN")]
    Privileges,
    /// An ordinary user's namespaces.
    #[error(transparent)]
    Rootless(#[from] RootlessError),
    /// The sockets of a dead keeper did not come.
    #[error("the listening sockets were not handed over")]
    HandOver,
    /// The kernel refused something.
    #[error("cannot set up the keeper: {0}")]
    System(#[from] io::Error),
}

/// Runs a keeper: in the foreground until it is told to stop, else until the daemon is ready to be
/// connected to. Returns the process's exit code. The process must be single-threaded.
pub fn run(options: &KeeperOptions) -> Result<i32, KeeperError> {
    let file = |action, path: &PathBuf, source| KeeperError::File { action, path: path.clone(), source };
    if !may_administrate()? {
        if rustix::process::geteuid().is_root() {
            return Err(KeeperError::Privileges);
        }
        rootless::enter(&options.run_root)?;
    }
    std::fs::create_dir_all(&options.run_root).map_err(|source| file("create", &options.run_root, source))?;
    let locked = lock(&options.run_root).map_err(|source| file("lock", &options.run_root, source))?;
    let lock = match locked {
        Ok(lock) => lock,
        // An engine that found its keeper dead has a new one already: the service manager supervises that from now on.
        Err(holder) if options.foreground && notify::is_expected() => {
            notify::ready(holder);
            return Ok(0);
        }
        Err(pid) => return Err(KeeperError::Running { run_root: options.run_root.clone(), pid }),
    };
    let listeners = if options.adopt { handed_over()? } else { listen::bind_all(&options.hosts)? };
    let control = listen_for_control(&options.run_root)
        .map_err(|source| file("listen in", &options.run_root, source))?;
    if options.foreground {
        let keeper = Keeper::new(options, listeners, control)?;
        notify::ready(rustix::process::getpid().as_raw_nonzero().get());
        return Ok(keeper.serve());
    }
    // The lock and the sockets are shared with the daemon; this process ends, which tells its starter
    // that clients can connect from now on.
    let daemon = clone3(Namespaces::NONE, None, || {
        let _lock = &lock;
        // Who takes the place of a dead keeper is where that one was: its engine's namespaces are the right ones.
        let detached = daemon::detach(&options.run_root, !options.adopt);
        let ready = detached.and_then(|()| Keeper::new(options, listeners, control));
        match ready {
            Ok(keeper) => keeper.serve(),
            Err(error) => {
                eprintln!("ferry keeper: {error}");
                1
            }
        }
    });
    daemon.map_err(io::Error::from)?;
    Ok(0)
}

/// Whether namespaces and mounts can be made at all.
fn may_administrate() -> io::Result<bool> {
    const SYS_ADMIN: u64 = 1 << 21;
    Ok(ferry_sys::capability::permitted()? & SYS_ADMIN != 0)
}

/// The lock, or the keeper that has it. A holder without a living process behind its pid file is just
/// starting or just ending (the kernel gives its descriptors back after the last thread): it is waited for.
fn lock(run_root: &Path) -> io::Result<Result<pidfile::RunLock, i32>> {
    let deadline = monotonic_ms() + LOCK_MS;
    loop {
        if let Some(lock) = pidfile::lock(run_root)? {
            return Ok(Ok(lock));
        }
        if let Some(holder) = pidfile::read(run_root, "keeper").filter(|pid| pidfile::lives(*pid)) {
            return Ok(Err(holder));
        }
        if monotonic_ms() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its holder neither starts nor ends"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The API's sockets from the engine that found its keeper dead.
fn handed_over() -> Result<Vec<OwnedFd>, KeeperError> {
    let mut giver = Channel::from(io::stdin().as_fd().try_clone_to_owned()?);
    let deadline = monotonic_ms() + HAND_OVER_MS;
    loop {
        match giver.try_recv() {
            Ok(Some((_, fds))) if !fds.is_empty() => return Ok(fds),
            Ok(None) => {}
            _ => return Err(KeeperError::HandOver),
        }
        let left = deadline.saturating_sub(monotonic_ms());
        if left == 0 {
            return Err(KeeperError::HandOver);
        }
        let mut set = PollSet::new();
        set.add((), giver.as_fd(), PollFlags::IN);
        set.wait(Some(Duration::from_millis(left)))?;
    }
}

struct Keeper<'a> {
    options: &'a KeeperOptions,
    listeners: Vec<OwnedFd>,
    sealed: OwnedFd,
    program: PathBuf,
    signals: SignalFd,
    control: OwnedFd,
    peers: Vec<Peer>,
    next_peer: u64,
    engine: Kept,
    launcher: Kept,
    /// Bridges, ports, names; absent where this process may not touch the network.
    _network: Option<ferry_net::service::Service>,
    /// The time by which the engine must have ended, once a stop was asked for.
    stopping: Option<u64>,
    /// The start is over and its memory given back.
    shrunk: bool,
}

struct Peer {
    id: u64,
    channel: Channel,
    broken: bool,
}

#[derive(Clone, Copy)]
enum Token {
    Signals,
    Control,
    Engine,
    Launcher,
    Peer(u64),
}

impl<'a> Keeper<'a> {
    fn new(options: &'a KeeperOptions, listeners: Vec<OwnedFd>, control: OwnedFd) -> io::Result<Keeper<'a>> {
        log::start();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = SignalFd::new(
            &[Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP].map(|signal| signal.as_raw()),
        )?;
        pidfile::write(&options.run_root, "keeper", rustix::process::getpid().as_raw_nonzero().get())?;
        Ok(Keeper {
            listeners,
            sealed: sealed_self()?,
            program: program_on_disk()?,
            signals,
            control,
            peers: Vec::new(),
            next_peer: 0,
            engine: Kept::adopt(Role::Engine, &options.run_root),
            launcher: Kept::adopt(Role::Launcher, &options.run_root),
            _network: start_network(options),
            stopping: None,
            shrunk: false,
            options,
        })
    }

    fn serve(mut self) -> i32 {
        while !self.is_stopped() {
            self.start_due();
            let ready = self.poll_set().wait(self.timeout()).unwrap_or_default();
            if ready.is_empty() && !self.shrunk {
                // Being smaller is all there is to gain, so nothing is lost where it fails.
                let _ = ferry_sys::monitor::shrink();
                self.shrunk = true;
            }
            for (token, _) in ready {
                match token {
                    Token::Signals => self.handle_signals(),
                    Token::Control => self.accept(),
                    Token::Engine => self.engine.died(),
                    Token::Launcher => self.launcher.died(),
                    Token::Peer(id) => self.handle_peer(id),
                }
            }
            self.peers.retain(|peer| !peer.broken);
            self.enforce_stop();
        }
        self.clean_up();
        0
    }

    fn poll_set(&self) -> PollSet<'_, Token> {
        let mut set = PollSet::new();
        set.add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        set.add(Token::Control, self.control.as_fd(), PollFlags::IN);
        for (token, kept) in [(Token::Engine, &self.engine), (Token::Launcher, &self.launcher)] {
            if let Some(pidfd) = kept.watch() {
                set.add(token, pidfd, PollFlags::IN);
            }
        }
        for peer in &self.peers {
            let write = if peer.channel.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Token::Peer(peer.id), peer.channel.as_fd(), PollFlags::IN | write);
        }
        set
    }

    fn timeout(&self) -> Option<Duration> {
        let due = match self.stopping {
            Some(deadline) => Some(deadline),
            None => [self.engine.due(), self.launcher.due()].into_iter().flatten().min(),
        };
        let due = due.map(|at| Duration::from_millis(at.saturating_sub(monotonic_ms())));
        if self.shrunk { due } else { Some(due.map_or(IDLE, |due| due.min(IDLE))) }
    }

    fn start_due(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let spawner = Spawner {
            options: self.options,
            listeners: &self.listeners,
            sealed: &self.sealed,
            program: &self.program,
        };
        for (role, kept) in [(Role::Engine, &mut self.engine), (Role::Launcher, &mut self.launcher)] {
            if let Err(error) = kept.start_if_due(&spawner) {
                eprintln!("ferry keeper: cannot start the {}: {error}", role.name());
            }
        }
    }

    /// The keeper is the reaper of everything whose parent is gone.
    fn handle_signals(&mut self) {
        let mut asked_to_stop = false;
        while let Ok(Some(signal)) = self.signals.next_signal() {
            match Signal::from_named_raw(signal) {
                Some(Signal::CHILD) => {}
                // Settings are the engine's business.
                Some(Signal::HUP) => self.engine.signal(signal),
                _ => asked_to_stop = true,
            }
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if asked_to_stop {
            self.stop(STOP_MS);
        }
    }

    fn accept(&mut self) {
        while let Ok(Some(socket)) = channel::accept(self.control.as_fd()) {
            if self.peers.len() < MAX_CONNECTIONS {
                let id = self.next_peer;
                self.next_peer += 1;
                self.peers.push(Peer { id, channel: socket.into(), broken: false });
            }
        }
    }

    fn handle_peer(&mut self, id: u64) {
        while let Some(index) = self.peers.iter().position(|peer| peer.id == id && !peer.broken) {
            let frame = {
                let peer = &mut self.peers[index];
                peer.broken |= peer.channel.flush().is_err();
                peer.channel.try_recv()
            };
            let reply = match frame {
                Ok(None) => return,
                Ok(Some((frame, _))) => self.answer(&frame),
                Err(_) => {
                    self.peers[index].broken = true;
                    return;
                }
            };
            let peer = &mut self.peers[index];
            let sent = peer.channel.queue(&ferry_shim::protocol::encode(&reply), Vec::new());
            peer.broken |= sent.is_err() || peer.channel.flush().is_err();
        }
    }

    fn answer(&mut self, frame: &[u8]) -> KeeperReply {
        match serde_json::from_slice(frame) {
            Ok(KeeperRequest::Ping) => KeeperReply::Pong { version: VERSION },
            Ok(KeeperRequest::Status) => KeeperReply::Status(KeeperStatus {
                keeper_pid: rustix::process::getpid().as_raw_nonzero().get(),
                engine_pid: self.engine.pid(),
                launcher_pid: self.launcher.pid(),
                engine_restarts: self.engine.restarts,
            }),
            Ok(KeeperRequest::StopAll { timeout_ms }) => {
                self.stop(timeout_ms);
                KeeperReply::Ok
            }
            Ok(KeeperRequest::RestartEngine) => {
                self.engine.signal(Signal::TERM.as_raw());
                KeeperReply::Ok
            }
            Err(error) => KeeperReply::Failed {
                message: format!("keeper of protocol version {VERSION} does not understand: {error}"),
            },
        }
    }

    /// The engine first, so that it can finish what it is doing.
    fn stop(&mut self, timeout_ms: u64) {
        self.stopping = Some(monotonic_ms().saturating_add(timeout_ms));
        self.engine.signal(Signal::TERM.as_raw());
    }

    /// While stopping: the launcher ends after the engine, and neither may refuse.
    fn enforce_stop(&mut self) {
        let Some(deadline) = self.stopping else { return };
        if monotonic_ms() >= deadline {
            self.engine.signal(Signal::KILL.as_raw());
            self.launcher.signal(Signal::KILL.as_raw());
        } else if self.engine.pid().is_none() {
            self.launcher.signal(Signal::TERM.as_raw());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopping.is_some() && self.engine.pid().is_none() && self.launcher.pid().is_none()
    }

    fn clean_up(&self) {
        if let Ok(mut network) = ferry_net::client::Client::connect(&self.options.run_root)
            && let Err(error) = network.call(&ferry_net::protocol::Request::Retire)
        {
            eprintln!("ferry keeper: cannot take the networks down: {error}");
        }
        listen::unlink_all(&self.options.hosts);
        let run_root = &self.options.run_root;
        for name in [KEEPER_SOCKET, ferry_shim::protocol::LAUNCHER_SOCKET] {
            let _ = std::fs::remove_file(run_root.join(name));
        }
        let _ = std::fs::remove_file(ferry_net::service::socket_path(run_root));
        for role in ["engine", "launcher", "keeper"] {
            pidfile::remove(run_root, role);
        }
        // Whose pid the engine noted means nothing any more; the folder stays where containers run.
        let _ = std::fs::remove_file(run_root.join(ENGINE_OWNER));
        let containers = run_root.join(CONTAINERS);
        let gone = std::fs::remove_dir(&containers).is_ok() || !containers.exists();
        if gone && ferry_sys::namespace::in_user_namespace() {
            rootless::leave(run_root);
        }
    }
}

/// Without it containers still run, with no network or the host's.
fn start_network(options: &KeeperOptions) -> Option<ferry_net::service::Service> {
    if let Some(socket) = rootless::ports_socket(&options.run_root) {
        ferry_net::port::outside::hold_through(socket);
    }
    let started = ferry_net::service::Service::start(ferry_net::service::ServiceOptions {
        run_root: options.run_root.clone(),
        table: ferry_net::service::table_name(&options.data_root),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
    });
    started.inspect_err(|error| eprintln!("ferry keeper: no network service: {error}")).ok()
}

/// The keeper's own socket. One found there is a dead keeper's: the caller holds the lock.
fn listen_for_control(run_root: &Path) -> io::Result<OwnedFd> {
    let path = run_root.join(KEEPER_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let control = channel::listen(&path, 0o600)?;
    set_nonblocking(&control)?;
    Ok(control)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}
