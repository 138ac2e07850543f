//! Ends: of children, of the container, of the shim.
//!
//! Owns the order at the container's exit: all output in the log -> `exit.json` -> the event -> (sync)
//! -> the root mount is dropped and the cgroup removed -> the socket is removed. What is slow comes after
//! the answer: dropping the mount may write hundreds of megabytes back.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use ferry_sys::clone::clone3;
use ferry_sys::monitor::pidfd_send_signal;
use ferry_sys::namespace::Namespaces;
use rustix::process::{Signal, WaitOptions, WaitStatus, wait};

use super::streams::StreamToken;
use super::{Compressor, Shim, killed_for_memory};
use crate::clock::{monotonic_ms, now_text};
use crate::poll::PollSet;
use crate::protocol::{ExitRecord, ShimEvent, VERSION, encode};

/// Compressing must not take the processor from containers.
const COMPRESSOR_NICE: i32 = 10;
/// Processes that survive their container's first process (a shared pid namespace) and keep its output
/// open are given so long to die of SIGKILL.
const SURVIVORS_MS: u64 = 2000;
/// How long the end waits for a full disk to have room for the last output.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

impl Shim {
    /// Collects every child that has ended: the container, exec sessions, helpers, orphans.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.next_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.child_ended(pid.as_raw_nonzero().get(), status);
        }
    }

    fn child_ended(&mut self, pid: i32, status: WaitStatus) {
        if self.container.as_ref().is_some_and(|container| container.pid == pid) {
            return self.container_ended(status);
        }
        if let Some(compressor) = self.compressor.take_if(|compressor| compressor.pid == pid) {
            if let Some(log) = &mut self.log {
                log.file().finish_compression(compressor.job, status.exit_status() == Some(0));
            }
            return self.compress_rotated();
        }
        let Some(session) = self.sessions.by_pid(pid) else { return };
        if session.streams.has_clients() {
            // So that whoever hears of the end has the output already, as far as it was written.
            session.streams.drain(&mut self.scratch, None);
        }
        let exit_code = exit_code(status);
        session.exit_code = Some(exit_code);
        let event = ShimEvent::ExecExited { exec_id: session.exec_id.clone(), exit_code };
        self.broadcast(&event);
    }

    fn container_ended(&mut self, status: WaitStatus) {
        let finished_at = now_text();
        self.kill_survivors();
        self.drain_output();
        let Some(container) = &mut self.container else { return };
        let oom = container.oom_killed || container.cgroup.as_ref().is_some_and(killed_for_memory);
        let announce_oom = oom && !container.oom_killed;
        container.oom_killed = oom;
        let mut record = ExitRecord {
            version: VERSION,
            generation: self.identity.generation,
            pid: container.pid,
            exit_code: exit_code(status),
            signal: status.terminating_signal(),
            oom_killed: oom,
            started_at: container.started_at.clone(),
            finished_at,
            error: self.log.as_ref().and_then(|log| log.loss()),
        };
        let written = self.write_record(&record);
        if let Err(error) = &written {
            let message = format!("cannot write {}: {error}", self.identity.exit_path.display());
            record.error = Some(record.error.map_or(message.clone(), |first| format!("{first}; {message}")));
        }
        if announce_oom {
            self.broadcast(&ShimEvent::Oom);
        }
        self.log_grew();
        self.broadcast(&ShimEvent::Exited(record.clone()));
        self.exit = Some(record);
        if let (true, Ok(file)) = (self.identity.durable, written) {
            self.sync_record(&file);
        }
        self.tear_down();
    }

    /// In a shared pid namespace the first process's end does not end the others.
    fn kill_survivors(&self) {
        let Some(container) = &self.container else { return };
        if container.processes().is_ok_and(|pids| !pids.is_empty()) {
            // What cannot be killed now is tried again when the cgroup is removed.
            let _ = container.kill_all();
        }
    }

    /// Reads the output to its end, which comes as soon as the last process that could write is dead.
    fn drain_output(&mut self) {
        let deadline = monotonic_ms() + SURVIVORS_MS;
        loop {
            self.streams.drain(&mut self.scratch, self.log.as_mut());
            let left = deadline.saturating_sub(monotonic_ms());
            if self.streams.is_drained() || left == 0 {
                break;
            }
            let mut set = PollSet::new();
            self.streams.register_output(&mut set, StreamToken::Output);
            // An interrupted wait is just a shorter one.
            let _ = set.wait(Some(Duration::from_millis(left)));
        }
        self.streams.end_all(self.log.as_mut());
        if let Some(log) = &mut self.log {
            log.finish(LOG_PATIENCE);
        }
    }

    /// Writes the record so that it is there whole or not at all.
    fn write_record(&self, record: &ExitRecord) -> io::Result<File> {
        let path = &self.identity.exit_path;
        let temporary = path.with_extension("json.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&encode(record))?;
        std::fs::rename(&temporary, path)?;
        Ok(file)
    }

    /// Best effort: where the disk refuses, the next engine may see the container as dead after a power
    /// failure, which by then it is.
    fn sync_record(&self, file: &File) {
        let _ = file.sync_all();
        if let Some(Ok(directory)) = self.identity.exit_path.parent().map(File::open) {
            let _ = directory.sync_all();
        }
    }

    /// Gives everything back. Each step is tried whatever became of the others; what stays behind is
    /// found by the engine's sweep.
    fn tear_down(&mut self) {
        self.oom = None;
        for session in self.sessions.iter() {
            if session.exit_code.is_none() {
                let _ = pidfd_send_signal(session.pidfd.as_fd(), Signal::KILL.as_raw());
            }
        }
        if let Some(container) = &mut self.container {
            container.rootfs_mount = None;
            if let Some(cgroup) = container.cgroup.take() {
                let _ = cgroup.remove();
            }
        }
        self.listener = None;
        self.remove_socket();
    }

    /// The name by which engines find this shim goes.
    pub(super) fn remove_socket(&self) {
        let _ = std::fs::remove_file(&self.identity.socket_path);
    }

    /// Compresses rotated log files one at a time in a helper process.
    pub(super) fn compress_rotated(&mut self) {
        let Some(log) = &mut self.log else { return };
        if self.compressor.is_some() {
            return;
        }
        // Where compressing is not possible now the file stays as it is, which readers do not mind.
        let Ok(Some(job)) = log.file().start_compression() else { return };
        let compress = || {
            // Niceness is a courtesy.
            let _ = rustix::process::setpriority_process(None, COMPRESSOR_NICE);
            i32::from(job.run().is_err())
        };
        match clone3(Namespaces::NONE, None, compress) {
            Ok(child) => self.compressor = Some(Compressor { pid: child.pid, job }),
            Err(_) => log.file().finish_compression(job, false),
        }
    }
}

/// Docker's exit code of a process: 128+n when ended by signal n.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        // A stopped child was not asked for and has not ended.
        (None, None) => 255,
    }
}
