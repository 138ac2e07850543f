//! The two processes a keeper keeps: starting, adopting, watching, starting again.
//!
//! Owns when a dead one is started anew: at once the first time, later ever more slowly while it keeps dying
//! young. Never decides what they do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ferry_shim::clock::monotonic_ms;
use ferry_sys::monitor::pidfd_send_signal;
use rustix::io::FdFlags;

use crate::options::KeeperOptions;
use crate::pidfile;

/// A process that lived so long did not die of its start.
const STABLE_MS: u64 = 10_000;
/// The pause before the second attempt; doubled each time.
const FIRST_PAUSE_MS: u64 = 100;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 5000;

/// What a kept process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves the API.
    Engine,
    /// Forks shims.
    Launcher,
}

impl Role {
    /// The name of its pid file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Engine => "engine",
            Role::Launcher => "launcher",
        }
    }

    /// Its command word.
    pub fn command(self) -> &'static str {
        match self {
            Role::Engine => "engine-worker",
            Role::Launcher => "launcher",
        }
    }
}

/// One kept process.
#[derive(Debug)]
pub struct Kept {
    role: Role,
    process: Option<(i32, OwnedFd)>,
    started_at: u64,
    failures: u32,
    /// When to start it, on the monotonic clock.
    due: Option<u64>,
    /// How often it was started again after it had died.
    pub restarts: u64,
}

impl Kept {
    /// Takes over a living one or lets a new one be started at once.
    pub fn adopt(role: Role, run_root: &Path) -> Kept {
        let process = pidfile::find(run_root, role.name(), role.command());
        let due = process.is_none().then(monotonic_ms);
        Kept { role, process, started_at: monotonic_ms(), failures: 0, due, restarts: 0 }
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    /// Becomes readable when it dies.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// When it is to be started next.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// It has died.
    pub fn died(&mut self) {
        self.process = None;
        let now = monotonic_ms();
        if now.saturating_sub(self.started_at) >= STABLE_MS {
            self.failures = 0;
        }
        self.due = Some(now + pause(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.restarts += 1;
    }

    /// Starts it if it is time to.
    pub fn start_if_due(&mut self, spawn: &Spawner<'_>) -> io::Result<()> {
        if self.due.is_none_or(|due| due > monotonic_ms()) {
            return Ok(());
        }
        self.started_at = monotonic_ms();
        // One may live that a keeper before this one started in its last moment.
        if let Some(found) = pidfile::find(&spawn.options.run_root, self.role.name(), self.role.command()) {
            (self.process, self.due) = (Some(found), None);
            return Ok(());
        }
        match spawn.start(self.role) {
            Ok(process) => {
                let written = pidfile::write(&spawn.options.run_root, self.role.name(), process.0);
                (self.process, self.due) = (Some(process), None);
                written
            }
            Err(error) => {
                self.died();
                Err(error)
            }
        }
    }

    /// Sends a signal if it runs.
    pub fn signal(&self, signal: i32) {
        if let Some((_, pidfd)) = &self.process {
            let _ = pidfd_send_signal(pidfd.as_fd(), signal);
        }
    }
}

/// None before the first restart, then doubling up to the longest.
fn pause(failures: u32) -> u64 {
    match failures {
        0 => 0,
        more => (FIRST_PAUSE_MS << (more - 1).min(16)).min(LONGEST_PAUSE_MS),
    }
}

/// All that is needed to start either process.
#[derive(Debug)]
pub struct Spawner<'a> {
    /// The keeper's own options.
    pub options: &'a KeeperOptions,
    /// The API's listening sockets.
    pub listeners: &'a [OwnedFd],
    /// The sealed copy of the program that launchers run from.
    pub sealed: &'a OwnedFd,
    /// The program on disk.
    pub program: &'a Path,
}

impl Spawner<'_> {
    fn start(&self, role: Role) -> io::Result<(i32, OwnedFd)> {
        let child = match role {
            Role::Engine => self.start_engine()?,
            Role::Launcher => self.start_launcher()?,
        };
        let pid = child.id() as i32;
        let pidfd = pidfile::open(pid).ok_or_else(|| io::Error::other("it died at once"))?;
        Ok((pid, pidfd))
    }

    fn start_engine(&self) -> io::Result<std::process::Child> {
        let numbers: Vec<String> =
            self.listeners.iter().map(|listener| listener.as_raw_fd().to_string()).collect();
        let mut command = Command::new(self.program);
        command.arg(Role::Engine.command()).args(self.options.worker_arguments());
        command.stdin(Stdio::null()).process_group(0);
        if !self.options.foreground {
            clear_environment(&mut command);
        }
        command.env("FERRY_LISTEN_FD", numbers.join(","));
        ferry_sys::signal::reset_in_child(&mut command);
        // Inherited by the engine alone: the keeper starts its children from one thread.
        set_close_on_exec(self.listeners, false)?;
        let mut spawned = command.spawn();
        if spawned.is_err() {
            // The program on disk was removed; the one that runs still is there.
            spawned = reprogrammed(&command, "/proc/self/exe").spawn();
        }
        set_close_on_exec(self.listeners, true)?;
        spawned
    }

    /// The launcher's environment is empty: containers must not see the caller's, not even in `/proc`.
    fn start_launcher(&self) -> io::Result<std::process::Child> {
        let program = format!("/proc/self/fd/{}", self.sealed.as_raw_fd());
        let mut command = Command::new(program);
        command.arg0(self.program).arg(Role::Launcher.command());
        command.arg("--run-root").arg(&self.options.run_root);
        command.env_clear().stdin(Stdio::null()).process_group(0);
        command.stdout(File::options().write(true).open("/dev/null")?);
        ferry_sys::signal::reset_in_child(&mut command);
        command.spawn()
    }
}

/// What a daemon sees of the environment of whoever called first.
fn clear_environment(command: &mut Command) {
    // Proxies and certificates are the machine's, and without them an engine reaches no registry.
    const KEPT: [&str; 12] = [
        "FERRY_LOG",
        "RUST_BACKTRACE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ];
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// The same command run from another program file.
fn reprogrammed(command: &Command, program: &str) -> Command {
    let mut other = Command::new(program);
    other.args(command.get_args()).stdin(Stdio::null()).process_group(0).env_clear();
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ferry_sys::signal::reset_in_child(&mut other);
    other
}

fn set_close_on_exec(fds: &[OwnedFd], on: bool) -> io::Result<()> {
    for fd in fds {
        rustix::io::fcntl_setfd(fd, if on { FdFlags::CLOEXEC } else { FdFlags::empty() })?;
    }
    Ok(())
}

/// The program's file as it is found on disk, which an upgrade may have replaced since.
pub fn program_on_disk() -> io::Result<PathBuf> {
    let link = std::fs::read_link("/proc/self/exe")?;
    match link.as_os_str().as_encoded_bytes().strip_suffix(b" (deleted)") {
        Some(path) => Ok(PathBuf::from(String::from_utf8_lossy(path).into_owned())),
        None => Ok(link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait() {
        let pauses: Vec<u64> = (0..9).map(pause).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE_MS);
    }
}
