//! The monitor of one container: forked by the launcher, it starts the container, carries its streams,
//! answers the engine, and records the exit.
//!
//! One thread, one poll loop, no runtime: an idle shim costs a few hundred kilobytes and no processor
//! time. It needs nobody: engines come and go on `shim.sock`.
//!
//! Life: [`start`] -> the loop here ([`requests`] and [`streams`] are its arms) -> [`exit`].

mod attachment;
mod connection;
mod exec;
mod exit;
mod members;
mod oom;
mod requests;
mod start;
mod stdin;
mod streams;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use ferry_runtime::cgroup::Cgroup;
use ferry_sys::channel;
use ferry_sys::monitor::{SignalFd, shrink};
use rustix::event::PollFlags;

use self::connection::{Connection, MAX_CONNECTIONS};
use self::exec::Sessions;
use self::oom::OomWatch;
use self::streams::{StreamToken, Streams};
use crate::clock::monotonic_ms;
use crate::log::Stream;
use crate::log::rotate::CompressionJob;
use crate::log::writer::LogWriter;
use crate::poll::PollSet;
use crate::protocol::{ExitRecord, ShimEvent};

pub use self::start::run;

/// A container silent for so long gives its buffers back.
const IDLE_MS: u64 = 1000;
/// A line without end (a prompt) is shown to log followers after so long.
const PROMPT_MS: u64 = 20;
/// How often a log that cannot be written is tried again.
const LOG_RETRY_MS: u64 = 200;
/// A container that pours out small pieces is read this much later, so that one read, one time stamp and
/// one write serve many of them. Its pipe holds far more than comes in so short a time.
const BREATHER: Duration = Duration::from_micros(500);
/// After memory ran out the kernel's kill is looked for this often, this far apart.
const OOM_LOOKS: u32 = 50;
const OOM_LOOK_MS: u64 = 20;
/// Clients that do not read hold up the shim's end for at most so long.
const LINGER_MS: u64 = 30_000;

/// What is known of the running container.
#[derive(Debug)]
struct Container {
    pid: i32,
    pidfd: OwnedFd,
    started_at: String,
    warnings: Vec<String>,
    cgroup: Option<Cgroup>,
    rootfs_mount: Option<OwnedFd>,
    frozen: bool,
    oom_killed: bool,
    /// The seccomp filter, for exec sessions.
    seccomp: Option<Vec<u8>>,
}

/// Names and wishes from the launch.
#[derive(Debug)]
struct Identity {
    id: String,
    generation: u64,
    socket_path: PathBuf,
    exit_path: PathBuf,
    durable: bool,
}

/// The monitor.
#[derive(Debug)]
struct Shim {
    identity: Identity,
    container: Option<Container>,
    streams: Streams,
    log: Option<LogWriter>,
    sessions: Sessions,
    signals: SignalFd,
    listener: Option<OwnedFd>,
    oom: Option<OomWatch>,
    connections: Vec<Connection>,
    next_connection: u64,
    exit: Option<ExitRecord>,
    released: bool,
    /// A process that compresses a rotated log file.
    compressor: Option<Compressor>,
    scratch: Vec<u8>,
    timers: Timers,
    /// How often the kernel's kill is still looked for.
    oom_looks: u32,
    /// Output is left to pile up in its pipe until the next round.
    breather: bool,
    /// The engine was told that the log cannot be written.
    log_trouble: bool,
    /// The engine's word on a gated launch.
    proceed: Option<bool>,
}

/// A helper process at work on a rotated log file.
#[derive(Debug)]
struct Compressor {
    pid: i32,
    job: CompressionJob,
}

/// When what has to be done next, on [`monotonic_ms`]'s clock.
#[derive(Debug, Default)]
struct Timers {
    /// Give memory back.
    idle: Option<u64>,
    /// Show an unfinished line.
    prompt: Option<u64>,
    /// Look for the kernel's kill.
    oom: Option<u64>,
    /// End in spite of slow clients.
    linger: Option<u64>,
    /// Try again to write the log.
    log: Option<u64>,
}

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Oom,
    Connection(u64),
    Container(StreamToken),
    Session(u64, StreamToken),
}

impl Shim {
    /// Serves until the container has ended and everybody who must know knows.
    fn serve(&mut self) {
        while !self.is_done() {
            let ready = match self.poll_set().wait(self.timeout()) {
                Ok(ready) => ready,
                // Poll fails only for lack of memory; there is nothing to do but to try again.
                Err(_) => continue,
            };
            self.breather = false;
            for (token, flags) in ready {
                self.dispatch(token, flags);
            }
            self.run_timers();
            self.settle();
        }
    }

    fn poll_set(&self) -> PollSet<'_, Token> {
        let mut set = PollSet::new();
        set.add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        if let Some(listener) = &self.listener {
            set.add(Token::Listener, listener.as_fd(), PollFlags::IN);
        }
        if let Some(oom) = &self.oom {
            set.add(Token::Oom, oom.as_fd(), PollFlags::IN);
        }
        for connection in &self.connections {
            let write = if connection.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Token::Connection(connection.id), connection.socket(), PollFlags::IN | write);
        }
        self.streams.register_clients(&mut set, Token::Container);
        if !self.breather && self.streams.wants_output() {
            self.streams.register_output(&mut set, |stream| Token::Container(StreamToken::Output(stream)));
        }
        for session in self.sessions.iter() {
            session.streams.register(&mut set, |token| Token::Session(session.key, token));
        }
        set
    }

    fn dispatch(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Signals => self.reap(),
            Token::Listener => self.accept(),
            Token::Oom => self.memory_ran_out(),
            Token::Connection(id) => self.handle_connection(id),
            Token::Container(StreamToken::Output(stream)) => self.read_container(stream),
            Token::Container(token) => self.streams.handle(token, flags),
            Token::Session(key, token) => self.handle_session(key, token, flags),
        }
    }

    fn read_container(&mut self, stream: Stream) {
        let count = self.streams.read_output(stream, &mut self.scratch, self.log.as_mut());
        let now = monotonic_ms();
        self.timers.idle = Some(now + IDLE_MS);
        self.breather = self.log.is_some() && self.streams.may_pile_up(count);
        if count > 0 && self.log.is_some() {
            self.log_grew();
            let waited_for = self.connections.iter().any(Connection::follows_log);
            if waited_for && self.log.as_ref().is_some_and(LogWriter::has_unfinished) {
                self.timers.prompt = Some(now + PROMPT_MS);
            }
            self.watch_log();
        }
    }

    /// Says once that the log cannot be written, and once that it goes on; looks after it in between.
    fn watch_log(&mut self) {
        let Some(log) = &self.log else { return };
        let (reason, lost) = (log.refusal().map(str::to_owned), log.loss());
        self.timers.log = reason.is_some().then(|| monotonic_ms() + LOG_RETRY_MS);
        if reason.is_some() != self.log_trouble {
            self.log_trouble = reason.is_some();
            self.broadcast(&ShimEvent::LogTrouble { reason, lost });
        }
    }

    fn handle_session(&mut self, key: u64, token: StreamToken, flags: PollFlags) {
        self.timers.idle = Some(monotonic_ms() + IDLE_MS);
        let Some(session) = self.sessions.by_key(key) else { return };
        match token {
            StreamToken::Output(stream) => {
                session.streams.read_output(stream, &mut self.scratch, None);
            }
            token => session.streams.handle(token, flags),
        }
    }

    /// Tells followers and starts compressing what was rotated.
    fn log_grew(&mut self) {
        let Some(log) = &mut self.log else { return };
        let generation = log.file().generation();
        for connection in &mut self.connections {
            connection.log_grew(generation);
        }
        self.compress_rotated();
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(Some(socket)) = channel::accept(listener.as_fd()) {
            if self.connections.len() < MAX_CONNECTIONS {
                let id = self.next_connection;
                self.next_connection += 1;
                self.connections.push(Connection::new(id, socket, false));
            }
        }
    }

    fn handle_connection(&mut self, id: u64) {
        // One request at a time: executing one may remove the connection.
        while let Some(index) = self.connections.iter().position(|connection| connection.id == id) {
            let connection = &mut self.connections[index];
            connection.flush();
            let Some((request, fds)) = connection.receive() else {
                break;
            };
            self.handle_request(id, request, fds);
        }
    }

    fn broadcast(&mut self, event: &ShimEvent) {
        for connection in &mut self.connections {
            connection.event(event);
        }
    }

    /// Memory ran out; the kill may be about to happen only, so it is looked for a while.
    fn memory_ran_out(&mut self) {
        if self.oom.as_ref().is_some_and(OomWatch::drain) {
            self.oom_looks = OOM_LOOKS;
            self.look_for_oom_kill();
        }
    }

    fn look_for_oom_kill(&mut self) {
        let Some(container) = &mut self.container else { return };
        self.oom_looks = self.oom_looks.saturating_sub(1);
        if container.oom_killed {
            return;
        }
        if container.cgroup.as_ref().is_some_and(killed_for_memory) {
            container.oom_killed = true;
            self.broadcast(&ShimEvent::Oom);
        } else if self.oom_looks > 0 {
            self.timers.oom = Some(monotonic_ms() + OOM_LOOK_MS);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let Timers { idle, prompt, oom, linger, log } = &self.timers;
        let next = [idle, prompt, oom, linger, log].into_iter().flatten().min();
        let due = next.map(|at| Duration::from_millis(at.saturating_sub(monotonic_ms())));
        if self.breather { Some(due.map_or(BREATHER, |due| due.min(BREATHER))) } else { due }
    }

    fn run_timers(&mut self) {
        let now = monotonic_ms();
        let due = |timer: &mut Option<u64>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.prompt)
            && let Some(log) = &mut self.log
        {
            log.flush_unfinished(Stream::Stdout, false);
            log.flush_unfinished(Stream::Stderr, false);
            self.log_grew();
        }
        if due(&mut self.timers.log)
            && let Some(log) = &mut self.log
        {
            log.retry();
            self.log_grew();
            self.watch_log();
        }
        if due(&mut self.timers.idle) {
            self.scratch = Vec::new();
            if let Some(log) = &mut self.log {
                log.release_memory();
            }
            // Being smaller is all there is to gain, so nothing is lost where it fails.
            let _ = shrink();
        }
        if due(&mut self.timers.oom) {
            self.look_for_oom_kill();
        }
        if due(&mut self.timers.linger) {
            self.streams.drop_clients();
            self.sessions.iter_mut().for_each(|session| session.streams.drop_clients());
        }
    }

    /// After each round: what has become superfluous goes.
    fn settle(&mut self) {
        if self.connections.iter().any(Connection::is_broken) {
            self.connections.retain(|connection| !connection.is_broken());
            self.apply_pins();
        }
        self.streams.release_clients();
        for session in self.sessions.iter_mut() {
            if session.exit_code.is_some() {
                session.streams.release_clients();
            }
        }
        self.sessions.retire();
    }

    fn is_done(&mut self) -> bool {
        if self.exit.is_none() || !(self.released || self.connections.is_empty()) {
            return false;
        }
        let pending = self.streams.has_pending_clients()
            || self.sessions.iter().any(|session| session.streams.has_pending_clients());
        if pending && self.timers.linger.is_none() {
            self.timers.linger = Some(monotonic_ms() + LINGER_MS);
        }
        let overdue = self.timers.linger.is_some_and(|at| at <= monotonic_ms());
        !pending || overdue
    }
}

/// A failed read means that the cgroup is gone, and with it the answer.
fn killed_for_memory(cgroup: &Cgroup) -> bool {
    cgroup.oom_kill_count().is_ok_and(|count| count > 0)
}
