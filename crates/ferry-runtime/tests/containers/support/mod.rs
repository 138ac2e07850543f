//! A busybox root file system, a Docker-like specification and a way to run it and see its output.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_oci::runtime::{self, Spec};
use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::{CreateError, CreateRequest, Process, Rootfs, Stdio};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A directory with a lower layer of busybox and room for upper layers.
pub struct Fixture {
    directory: tempfile::TempDir,
    next: std::cell::Cell<u32>,
}

/// What a finished container left.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
    pub warnings: Vec<String>,
}

impl Fixture {
    pub fn new(busybox: &Path) -> Fixture {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let lower = directory.path().join("lower");
        for name in ["bin", "etc", "tmp", "root", "empty"] {
            std::fs::create_dir_all(lower.join(name)).expect("a directory");
        }
        std::fs::copy(busybox, lower.join("bin/busybox")).expect("busybox is readable");
        for applet in [
            "sh", "cat", "echo", "ls", "id", "true", "false", "sleep", "mount", "grep", "env", "ps", "pwd",
            "touch", "mkdir", "stat", "hostname", "ulimit", "kill", "readlink", "head", "dd", "tty", "stty",
            "umask", "test", "ip", "mknod", "chmod", "wc", "find", "rm", "ln", "nproc", "ifconfig",
            "unshare", "tr", "seq", "yes", "sed",
        ] {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).expect("a link");
        }
        Fixture { directory, next: std::cell::Cell::new(0) }
    }

    pub fn lower(&self) -> PathBuf {
        self.directory.path().join("lower")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the lower layer.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.lower().join(path);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn name(&self) -> String {
        let number = self.next.get();
        self.next.set(number + 1);
        format!("{}-{number}", std::process::id())
    }

    /// A request for a container with Docker's defaults running `command`.
    pub fn request(
        &self,
        command: &[&str],
        change: impl FnOnce(&mut serde_json::Value),
    ) -> (CreateRequest, Output) {
        let name = self.name();
        let upper = self.directory.path().join(format!("upper-{name}"));
        let work = self.directory.path().join(format!("work-{name}"));
        std::fs::create_dir(&upper).expect("a directory");
        std::fs::create_dir(&work).expect("a directory");
        let mut value = spec(&name, command);
        change(&mut value);
        let spec: Spec = serde_json::from_value(value).expect("a valid specification");
        let rootfs = Rootfs::Overlay { lowers: vec![self.lower()], upper, work, volatile: true };
        let (stdio, output) = pipes();
        let mut request = CreateRequest::new(name, spec, rootfs, stdio);
        request.seccomp = Some(default_filter());
        (request, output)
    }

    /// Runs a container to its end.
    pub fn run(
        &self,
        command: &[&str],
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Outcome, CreateError> {
        let (request, output) = self.request(command, change);
        let process = ferry_runtime::run(request)?;
        Ok(finish(process, output))
    }

    pub fn run_plain(&self, command: &[&str]) -> Outcome {
        self.run(command, |_| {}).expect("it starts")
    }
}

/// Reading ends of a container's streams.
pub struct Output {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    pub fn read(self) -> (String, String) {
        let read = |descriptor: OwnedFd| {
            let mut text = String::new();
            std::fs::File::from(descriptor).read_to_string(&mut text).expect("text");
            text
        };
        (read(self.stdout), read(self.stderr))
    }
}

pub fn pipes() -> (Stdio, Output) {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    (Stdio::Fds { stdin: None, stdout: stdout_end, stderr: stderr_end }, Output { stdout, stderr })
}

/// Reads all output, reaps, and removes the cgroup.
pub fn finish(process: Process, output: Output) -> Outcome {
    let (stdout, stderr) = output.read();
    let code = wait(&process);
    let Process { cgroup, rootfs_mount, warnings, .. } = process;
    drop(rootfs_mount);
    if let Some(cgroup) = cgroup {
        cgroup.remove().expect("the cgroup can be removed");
    }
    Outcome { stdout, stderr, code, warnings }
}

/// The exit code, 128 and the signal when one ended it.
pub fn wait(process: &Process) -> i32 {
    let status = loop {
        match waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result.expect("a child").expect("an ended one"),
        }
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => unreachable!("ended neither by exit nor by signal"),
    }
}

pub fn kill(process: &Process, cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup {
        cgroup.kill_all().expect("processes can be killed");
    }
    let _ = ferry_sys::signal::kill(process.pid, 9);
    wait(process);
}

/// Docker's default specification.
fn spec(name: &str, command: &[&str]) -> serde_json::Value {
    let capabilities: Vec<&str> = ferry_runtime::capability::DOCKER_DEFAULT
        .iter()
        .map(|capability| ferry_runtime::capability::name(*capability))
        .collect();
    serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
            "args": command,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=box"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "oomScoreAdj": 0
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]}
        ],
        "linux": {
            "cgroupsPath": format!("/ferry-test/{name}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
            "namespaces": [
                {"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
                "/sys/devices/virtual/powercap"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// `runtime::Process` for an exec.
pub fn process(command: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> runtime::Process {
    let mut value = spec("exec", command)["process"].take();
    change(&mut value);
    serde_json::from_value(value).expect("a valid process")
}

/// Docker's default filter, compiled.
pub fn default_filter() -> Vec<u8> {
    let capabilities = ferry_runtime::capability::docker_default();
    let profile = ferry_runtime::seccomp::default_profile(&capabilities);
    ferry_runtime::seccomp::compile(&profile).expect("it compiles")
}

/// Kills a container and removes what it had.
pub fn release(process: Process, output: Output) {
    kill(&process, process.cgroup.as_ref());
    let Process { cgroup, rootfs_mount, pidfd, .. } = process;
    drop((rootfs_mount, pidfd));
    if let Some(cgroup) = cgroup {
        cgroup.remove().expect("the cgroup can be removed");
    }
    output.read();
}

/// Waits for the end without reaping.
pub fn wait_unreaped(process: &Process) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(process.pidfd.as_fd()), options).expect("a child");
}

/// Everything written to a terminal until its last user has gone.
pub fn read_terminal(mut process: Process) -> String {
    let console = process.console.take().expect("a terminal");
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    // The end of a terminal is EIO.
    while let Ok(length) = rustix::io::read(&console, &mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    let (_, output) = pipes();
    finish(process, output);
    String::from_utf8(text).expect("text")
}

/// Children, cgroups, mounts and descriptors of this process.
pub fn leftovers() -> (usize, usize, usize, usize) {
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    let children = children.map_or(0, |children| children.split_ascii_whitespace().count());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable").lines().count();
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("readable").count();
    (children, cgroups(), mounts, descriptors)
}

/// Cgroups of tests, in all hierarchies.
fn cgroups() -> usize {
    let parents = parent_cgroups().into_iter().filter_map(|parent| std::fs::read_dir(parent).ok());
    parents.flat_map(|entries| entries.flatten()).filter(|entry| entry.path().is_dir()).count()
}

fn parent_cgroups() -> Vec<PathBuf> {
    let mut parents = vec![PathBuf::from("/sys/fs/cgroup/ferry-test")];
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    parents.extend(hierarchies.map(|entry| entry.path().join("ferry-test")));
    parents
}

/// Takes away the parent of the tests' cgroups, where no other run of the tests uses it.
pub fn remove_parent_cgroup() {
    for parent in parent_cgroups() {
        let _ = std::fs::remove_dir(parent);
    }
}
