//! What a shim does when asked: one function per request.

use std::os::fd::{AsFd, OwnedFd};

use ferry_oci::runtime;
use ferry_runtime::ExecRequest;
use ferry_sys::monitor::pidfd_send_signal;
use rustix::io::Errno;

use super::attachment::Wants;
use super::streams::{OutputPolicy, Streams};
use super::{Container, Shim};
use crate::protocol::{
    ShimEnvelope, ShimError, ShimReply, ShimRequest, ShimState, VERSION, WindowSize, error_code,
};

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

type Answer = Result<(ShimReply, Vec<OwnedFd>), ShimError>;

/// A request to run a process, taken apart.
struct Exec {
    exec_id: String,
    process: Box<runtime::Process>,
    terminal: Option<WindowSize>,
    open_stdin: bool,
    capture: bool,
    seccomp: Option<String>,
}

impl Shim {
    /// Executes one request and answers it.
    pub(super) fn handle_request(
        &mut self,
        connection: u64,
        request: Result<ShimEnvelope, (u64, ShimError)>,
        fds: Vec<OwnedFd>,
    ) {
        let (seq, answer) = match request {
            Ok(envelope) => (envelope.seq, self.execute(connection, envelope.request, fds)),
            Err((seq, error)) => (seq, Err(error)),
        };
        let Some(connection) = self.connections.iter_mut().find(|peer| peer.id == connection) else { return };
        match answer {
            Ok((reply, fds)) => connection.reply(seq, Ok(reply), fds),
            Err(error) => connection.reply(seq, Err(error), Vec::new()),
        }
    }

    fn execute(&mut self, connection: u64, request: ShimRequest, mut fds: Vec<OwnedFd>) -> Answer {
        match request {
            ShimRequest::Hello { version: _ } => self.hello(connection),
            ShimRequest::Exec { exec_id, process, terminal, open_stdin, capture, seccomp } => {
                let exec = Exec { exec_id, process, terminal, open_stdin, capture, seccomp };
                self.exec(exec, fds.pop())
            }
            ShimRequest::Attach { exec_id, stdin, stdout, stderr } => {
                let socket = fds.pop().ok_or_else(|| malformed("attach needs a descriptor"))?;
                self.streams_of(exec_id.as_deref())?.attach(socket, Wants { stdin, stdout, stderr });
                ok()
            }
            ShimRequest::Resize { exec_id, size } => self.resize(exec_id.as_deref(), size),
            ShimRequest::CloseStdin { exec_id } => {
                self.streams_of(exec_id.as_deref())?.close_stdin();
                ok()
            }
            ShimRequest::Signal { exec_id, signal, all } => self.signal(exec_id.as_deref(), signal, all),
            ShimRequest::Freeze(on) => self.freeze(on),
            ShimRequest::UpdateResources(resources) => {
                let cgroup = self.container()?.cgroup.as_ref().ok_or_else(no_cgroup)?;
                cgroup.update(&resources).map_err(system)?;
                ok()
            }
            ShimRequest::Rootfs => self.rootfs(),
            ShimRequest::FollowLog { on } => self.follow_log(connection, on),
            ShimRequest::LogAck => self.log_ack(connection),
            ShimRequest::PinLog { generation } => self.pin_log(connection, generation),
            ShimRequest::Proceed { start } => {
                self.proceed = Some(start);
                ok()
            }
            ShimRequest::Processes => {
                Ok((ShimReply::Processes(self.container()?.processes().map_err(system)?), Vec::new()))
            }
            ShimRequest::Stats => {
                let cgroup = self.container()?.cgroup.as_ref().ok_or_else(no_cgroup)?;
                Ok((ShimReply::Stats(Box::new(cgroup.stats().map_err(system)?)), Vec::new()))
            }
            ShimRequest::Release => self.release(),
        }
    }

    fn hello(&mut self, connection: u64) -> Answer {
        if let Some(connection) = self.connections.iter_mut().find(|peer| peer.id == connection) {
            connection.wants_events = true;
        }
        // Whoever is new is told of a log that cannot be written.
        self.log_trouble = false;
        let log_generation = self.log.as_mut().map_or(0, |log| log.file().generation());
        let container = self.container.as_ref();
        let state = ShimState {
            version: VERSION,
            id: self.identity.id.clone(),
            generation: self.identity.generation,
            pid: container.map_or(0, |container| container.pid),
            started_at: container.map(|container| container.started_at.clone()).unwrap_or_default(),
            frozen: container.is_some_and(|container| container.frozen),
            oom_killed: container.is_some_and(|container| container.oom_killed),
            exit: self.exit.clone(),
            execs: self.sessions.states(),
            log_generation,
            warnings: container.map(|container| container.warnings.clone()).unwrap_or_default(),
        };
        Ok((ShimReply::State(Box::new(state)), Vec::new()))
    }

    fn exec(&mut self, exec: Exec, client: Option<OwnedFd>) -> Answer {
        self.sessions.admit(&exec.exec_id)?;
        let container = running(&self.container, self.exit.is_some())?;
        // Whoever froze it: this process would wait for the new one, and could not be asked to thaw it.
        let frozen = |cgroup: &ferry_runtime::cgroup::Cgroup| cgroup.is_frozen().unwrap_or(false);
        if container.frozen || container.cgroup.as_ref().is_some_and(frozen) {
            let message = "the container is paused".into();
            return Err(ShimError { code: error_code::FROZEN, message });
        }
        let seccomp = match &exec.seccomp {
            Some(text) => Some(super::start::decode_filter(text).map_err(|message| malformed(&message))?),
            None => container.seccomp.clone(),
        };
        let (mut streams, stdio) = if exec.capture || client.is_some() || exec.terminal.is_some() {
            let policy = if exec.capture { OutputPolicy::Held } else { OutputPolicy::Attached };
            Streams::new(exec.terminal, exec.open_stdin, true, policy).map_err(system)?
        } else {
            Streams::discarded().map_err(system)?
        };
        let started = ferry_runtime::exec(ExecRequest {
            pid: container.pid,
            pidfd: container.pidfd.as_fd(),
            process: *exec.process,
            stdio,
            cgroup: container.cgroup.as_ref(),
            seccomp,
            linux: None,
            described: ferry_runtime::hooks::Described::default(),
            preserved: Vec::new(),
            faults: None,
        });
        let process =
            started.map_err(|error| ShimError { code: error.exit_code(), message: error.to_string() })?;
        if let Some(console) = process.console {
            streams.set_console(console, exec.open_stdin).map_err(system)?;
        }
        if let Some(client) = client {
            streams.attach(client, Wants { stdin: exec.open_stdin, stdout: true, stderr: true });
        }
        self.sessions.add(exec.exec_id, process.pid, process.pidfd, streams);
        Ok((ShimReply::ExecStarted { pid: process.pid }, Vec::new()))
    }

    fn resize(&mut self, exec_id: Option<&str>, size: WindowSize) -> Answer {
        if self.container.is_none() {
            // Before the start the size is part of the launch.
            return Err(not_running());
        }
        if self.streams_of(exec_id)?.resize(size).map_err(system)? {
            ok()
        } else {
            Err(ShimError { code: error_code::NOT_FOUND, message: "the process has no terminal".into() })
        }
    }

    fn signal(&mut self, exec_id: Option<&str>, signal: i32, all: bool) -> Answer {
        if !(0..=64).contains(&signal) {
            return Err(malformed(&format!("invalid signal {signal}")));
        }
        if let Some(exec_id) = exec_id {
            let session = self.sessions.get(exec_id)?;
            return delivered(pidfd_send_signal(session.pidfd.as_fd(), signal));
        }
        let container = running(&self.container, self.exit.is_some())?;
        if all {
            if signal == SIGKILL {
                container.kill_all().map_err(system)?;
            } else {
                for pid in container.processes().map_err(system)? {
                    // One that has just ended needs no signal.
                    let _ = ferry_sys::signal::kill(pid, signal);
                }
            }
            return ok();
        }
        let sent = pidfd_send_signal(container.pidfd.as_fd(), signal);
        if signal == SIGKILL && container.frozen {
            // On cgroup v1 a frozen process cannot even die.
            self.freeze(false)?;
        }
        delivered(sent)
    }

    fn freeze(&mut self, on: bool) -> Answer {
        running(&self.container, self.exit.is_some())?;
        let container = self.container.as_mut().ok_or_else(not_running)?;
        let cgroup = container.cgroup.as_ref().ok_or_else(no_cgroup)?;
        if on { cgroup.freeze() } else { cgroup.thaw() }.map_err(system)?;
        container.frozen = on;
        ok()
    }

    fn rootfs(&mut self) -> Answer {
        let container = self.container()?;
        let mount = container.rootfs_mount.as_ref().ok_or_else(not_running)?;
        Ok((ShimReply::Rootfs, vec![mount.try_clone().map_err(system)?]))
    }

    fn follow_log(&mut self, connection: u64, on: bool) -> Answer {
        let generation = self.log_generation()?;
        let unfinished = self.log.as_ref().is_some_and(|log| log.has_unfinished());
        if on && unfinished && self.timers.prompt.is_none() {
            self.timers.prompt = Some(crate::clock::monotonic_ms());
        }
        if let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) {
            peer.follow_log(on, generation);
        }
        ok()
    }

    fn log_ack(&mut self, connection: u64) -> Answer {
        let generation = self.log_generation()?;
        if let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) {
            peer.log_acknowledged(generation);
        }
        ok()
    }

    fn pin_log(&mut self, connection: u64, generation: Option<u64>) -> Answer {
        self.log_generation()?;
        if let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) {
            peer.pin = generation;
        }
        self.apply_pins();
        ok()
    }

    /// The log keeps what the most backward reader needs.
    pub(super) fn apply_pins(&mut self) {
        let oldest = self.connections.iter().filter_map(|connection| connection.pin).min();
        if let Some(log) = &mut self.log {
            log.file().pin(oldest);
        }
    }

    fn release(&mut self) -> Answer {
        if self.exit.is_none() {
            let message = "the container has not ended".into();
            return Err(ShimError { code: error_code::CONFLICT, message });
        }
        self.released = true;
        ok()
    }

    fn log_generation(&mut self) -> Result<u64, ShimError> {
        match &mut self.log {
            Some(log) => Ok(log.file().generation()),
            None => {
                let message = "the container has no log".into();
                Err(ShimError { code: error_code::NOT_FOUND, message })
            }
        }
    }

    fn container(&self) -> Result<&Container, ShimError> {
        self.container.as_ref().ok_or_else(not_running)
    }

    fn streams_of(&mut self, exec_id: Option<&str>) -> Result<&mut Streams, ShimError> {
        match exec_id {
            None => Ok(&mut self.streams),
            Some(exec_id) => Ok(&mut self.sessions.get(exec_id)?.streams),
        }
    }
}

/// The container, unless it has not started or has ended.
fn running(container: &Option<Container>, ended: bool) -> Result<&Container, ShimError> {
    container.as_ref().filter(|_| !ended).ok_or_else(not_running)
}

fn delivered(result: Result<(), Errno>) -> Answer {
    match result {
        Ok(()) => ok(),
        Err(Errno::SRCH) => Err(not_running()),
        Err(errno) => Err(system(errno)),
    }
}

fn ok() -> Answer {
    Ok((ShimReply::Ok, Vec::new()))
}

fn malformed(message: &str) -> ShimError {
    ShimError { code: error_code::MALFORMED, message: message.to_owned() }
}

fn system(error: impl std::fmt::Display) -> ShimError {
    ShimError { code: error_code::SYSTEM, message: error.to_string() }
}

fn not_running() -> ShimError {
    ShimError { code: error_code::NOT_RUNNING, message: "the container is not running".into() }
}

/// An ordinary user's container where no cgroup was handed down.
const NO_CGROUP: &str = "the container has no cgroup of its own: an ordinary user gets some on cgroup v2 from systemd (Delegate=yes)";

fn no_cgroup() -> ShimError {
    ShimError { code: error_code::SYSTEM, message: NO_CGROUP.into() }
}
