//! The launcher: a small, single-threaded process whose only job is to be forked.
//!
//! Owns `launcher.sock` and the state that every container starts from: whatever the first caller
//! had (limits, masks, priorities, working directory) is reset once, so that all shims and containers begin
//! alike. Never parses a launch itself: the forked shim does, so that neither time nor garbage of a
//! launch is shared. Never ends because of what somebody sends.

mod embryo;
mod reset;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_sys::channel::{self, Channel};
use ferry_sys::descriptor::inherited;
use ferry_sys::monitor::SignalFd;
use rustix::event::PollFlags;
use rustix::process::{Signal, WaitOptions, wait};
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::embryo::{Embryo, fork_shim};
use crate::poll::PollSet;
use crate::protocol::{LAUNCHER_SOCKET, LauncherReply, VERSION, encode};

/// Connections beyond this are refused; an engine needs one, a test a hundred.
const MAX_CONNECTIONS: usize = 512;

/// A launcher without work for so long makes itself small.
const IDLE: Duration = Duration::from_secs(5);

/// The next shim is forked so long after the last launch: the one just launched needs the processors now.
const EMBRYO_PAUSE: Duration = Duration::from_millis(15);

/// Where the launcher listens.
#[derive(Debug, Clone)]
pub struct LauncherOptions {
    /// Holds `launcher.sock`.
    pub run_root: PathBuf,
    /// The listening socket inherited from the keeper, which outlives launchers; without it the
    /// launcher binds the socket itself.
    pub listen_fd: Option<RawFd>,
}

impl LauncherOptions {
    /// Parses what follows the command word of `ferry launcher`: `--run-root DIR [--listen-fd NUMBER]`.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<LauncherOptions, String> {
        let mut options = LauncherOptions { run_root: PathBuf::new(), listen_fd: None };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument:?} needs a value"))?;
            match argument.to_str() {
                Some("--run-root") => options.run_root = value.into(),
                Some("--listen-fd") => {
                    let number = value.to_str().and_then(|text| text.parse().ok());
                    options.listen_fd = Some(number.ok_or_else(|| format!("{value:?} is no descriptor"))?);
                }
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        if options.run_root.as_os_str().is_empty() {
            return Err("--run-root is missing".into());
        }
        Ok(options)
    }
}

/// Serves until asked to end. The process must be single-threaded.
pub fn run(options: &LauncherOptions) -> io::Result<i32> {
    let listener = match options.listen_fd {
        Some(number) => inherited(number)?,
        None => bind(options)?,
    };
    let flags = rustix::fs::fcntl_getfl(&listener)?;
    rustix::fs::fcntl_setfl(&listener, flags | rustix::fs::OFlags::NONBLOCK)?;
    write_pid(&options.run_root)?;
    reset::everything_inherited()?;
    ferry_sys::monitor::return_freed_memory();
    // Read once here, known to every shim forked from now on. A machine without cgroups is told about
    // by each start.
    let _ = ferry_runtime::cgroup::detect();
    let signals = SignalFd::new(&[Signal::CHILD.as_raw()])?;
    let idle = Some(IDLE);
    let connections = Vec::new();
    Launcher { listener, signals, connections, next_id: 0, idle, embryo: None, ended: false }.serve()
}

/// The keeper writes the pid file too, unless it dies in that very moment; its successor must find this
/// launcher.
fn write_pid(run_root: &Path) -> io::Result<()> {
    let path = run_root.join("launcher.pid");
    let temporary = path.with_extension("pid.own");
    std::fs::write(&temporary, format!("{}\n", rustix::process::getpid().as_raw_nonzero()))?;
    std::fs::rename(temporary, path)
}

fn bind(options: &LauncherOptions) -> io::Result<OwnedFd> {
    let path = options.run_root.join(LAUNCHER_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    channel::listen(&path, 0o600)
}

struct Launcher {
    listener: OwnedFd,
    signals: SignalFd,
    connections: Vec<Peer>,
    next_id: u64,
    /// After this much quiet memory is given back; nothing once it was.
    idle: Option<Duration>,
    /// The shim of the next launch.
    embryo: Option<Embryo>,
    ended: bool,
}

struct Peer {
    id: u64,
    channel: Channel,
    broken: bool,
}

#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Peer(u64),
}

/// A request as far as the launcher looks into it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Launch(IgnoredAny),
    Ping,
    Shutdown,
}

impl Launcher {
    fn serve(mut self) -> io::Result<i32> {
        while !self.ended {
            let pause = self.embryo.is_none().then_some(EMBRYO_PAUSE);
            let ready = self.poll_set().wait(pause.or(self.idle))?;
            if ready.is_empty() && pause.is_some() {
                // Without one the next launch forks its shim itself.
                self.embryo = Embryo::new().ok();
                continue;
            }
            self.idle = if ready.is_empty() { self.shrink() } else { Some(IDLE) };
            for (token, _) in ready {
                match token {
                    Token::Signals => self.reap(),
                    Token::Listener => self.accept(),
                    Token::Peer(id) => self.handle_peer(id),
                }
            }
            self.connections.retain(|peer| !peer.broken);
        }
        Ok(0)
    }

    fn poll_set(&self) -> PollSet<'_, Token> {
        let mut set = PollSet::new();
        set.add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        set.add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        for peer in &self.connections {
            let write = if peer.channel.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Token::Peer(peer.id), peer.channel.as_fd(), PollFlags::IN | write);
        }
        set
    }

    fn shrink(&self) -> Option<Duration> {
        // Being smaller is all there is to gain, so nothing is lost where it fails.
        let _ = ferry_sys::monitor::shrink();
        None
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.next_signal() {}
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }

    fn accept(&mut self) {
        while let Ok(Some(socket)) = channel::accept(self.listener.as_fd()) {
            if self.connections.len() < MAX_CONNECTIONS {
                let id = self.next_id;
                self.next_id += 1;
                self.connections.push(Peer { id, channel: socket.into(), broken: false });
            }
        }
    }

    fn handle_peer(&mut self, id: u64) {
        let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == id) else { return };
        peer.broken |= peer.channel.flush().is_err();
        while !peer.broken && !self.ended {
            match peer.channel.try_recv() {
                Ok(None) => break,
                Ok(Some((frame, fds))) => {
                    let reply = answer(&frame, fds, &mut self.embryo, &mut self.ended);
                    let sent = peer.channel.queue(&encode(&reply), Vec::new());
                    peer.broken = sent.is_err() || peer.channel.flush().is_err();
                }
                Err(_) => peer.broken = true,
            }
        }
    }
}

fn answer(
    frame: &[u8],
    mut fds: Vec<OwnedFd>,
    embryo: &mut Option<Embryo>,
    ended: &mut bool,
) -> LauncherReply {
    match serde_json::from_slice(frame) {
        Ok(Request::Ping) => LauncherReply::Pong { version: VERSION },
        Ok(Request::Shutdown) => {
            *ended = true;
            LauncherReply::Pong { version: VERSION }
        }
        Ok(Request::Launch(_)) if fds.len() == 1 => launch(frame, &fds.remove(0), embryo.take()),
        Ok(Request::Launch(_)) => {
            let message = format!("a launch carries one descriptor, not {}", fds.len());
            LauncherReply::Failed { message }
        }
        Err(error) => {
            let message = format!("launcher of protocol version {VERSION} does not understand: {error}");
            LauncherReply::Failed { message }
        }
    }
}

/// Hands the launch to the embryo, or to a shim forked for it.
fn launch(frame: &[u8], control: &OwnedFd, embryo: Option<Embryo>) -> LauncherReply {
    if let Some(shim_pid) = embryo.and_then(|embryo| embryo.launch(frame, control.as_fd())) {
        return LauncherReply::Launched { shim_pid };
    }
    match fork_shim(frame, control) {
        Ok(shim_pid) => LauncherReply::Launched { shim_pid },
        Err(error) => LauncherReply::Failed { message: format!("cannot fork a shim: {error}") },
    }
}
