//! OCI bundles and runtimes that run them, each with a state directory of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::Outcome;
use crate::engine::binary;

/// Applets that the bundles' shells use.
const APPLETS: &[&str] = &[
    "cat", "chmod", "chrt", "echo", "env", "false", "grep", "head", "hostname", "id", "ionice", "kill", "ls",
    "mkdir", "mknod", "mount", "ps", "pwd", "readlink", "seq", "sh", "sleep", "sort", "stat", "stty", "test",
    "touch", "true", "tty", "ulimit", "umount", "uname", "unshare", "wc",
];

/// A bundle with busybox as its root file system, and the runtime that is tested with it.
#[derive(Debug)]
pub struct Bundle {
    root: tempfile::TempDir,
    program: PathBuf,
    ids: AtomicUsize,
}

impl Bundle {
    /// For ferry, called as `runc`.
    #[must_use]
    pub fn new() -> Self {
        let mut bundle = Self::of(PathBuf::new());
        let link = bundle.path("runc");
        symlink(binary(), &link).expect("a link");
        bundle.program = link;
        bundle
    }

    /// For another runtime.
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        let root = tempfile::Builder::new().prefix("ferry-bundle-").tempdir().expect("a folder");
        let bundle = Self { root, program, ids: AtomicUsize::new(0) };
        for folder in
            ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp", "rootfs/etc", "state"]
        {
            fs::create_dir_all(bundle.path(folder)).expect("a folder");
        }
        fs::copy("/bin/busybox", bundle.path("rootfs/bin/busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            symlink("busybox", bundle.path("rootfs/bin").join(applet)).expect("a link");
        }
        bundle.configure(&["true"], |_| {});
        bundle
    }

    /// A path in the bundle's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes `config.json`: a common container with this command, changed by `change`.
    pub fn configure(&self, arguments: &[&str], change: impl FnOnce(&mut Value)) {
        let mut config = config(arguments);
        change(&mut config);
        fs::write(self.path("config.json"), config.to_string()).expect("written");
    }

    /// A name no other container of this machine has: cgroups are made after it.
    #[must_use]
    pub fn id(&self) -> String {
        let folder = self.root.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{folder}-{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// The runtime with these arguments, not started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.path("state")).args(arguments);
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    /// Runs the runtime.
    #[must_use]
    pub fn call(&self, arguments: &[&str]) -> Outcome {
        self.finish(self.command(arguments), arguments)
    }

    /// Runs the runtime with standard streams that may stay open: for what goes on in the background.
    #[must_use]
    pub fn call_detached(&self, arguments: &[&str]) -> Outcome {
        let streams = |name: &str| fs::File::create(self.path(name)).expect("a file");
        let mut command = self.command(arguments);
        command.stdout(streams("out")).stderr(streams("err"));
        let status = command.status().expect("the runtime runs");
        let mut outcome = self.finish_status(status, arguments);
        outcome.stdout = fs::read_to_string(self.path("out")).unwrap_or_default();
        outcome.stderr = fs::read_to_string(self.path("err")).unwrap_or_default();
        outcome
    }

    /// What a detached container has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }

    fn finish(&self, mut command: Command, arguments: &[&str]) -> Outcome {
        let output = command.output().expect("the runtime runs");
        Outcome::new(format!("{} {}", self.program.display(), arguments.join(" ")), &output)
    }

    fn finish_status(&self, status: std::process::ExitStatus, arguments: &[&str]) -> Outcome {
        let output = std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() };
        Outcome::new(format!("{} {}", self.program.display(), arguments.join(" ")), &output)
    }

    /// Runs a container of this command to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str], change: impl FnOnce(&mut Value)) -> Outcome {
        self.configure(arguments, change);
        self.call(&["run", &self.id()])
    }

    /// Runs a shell script as a container.
    #[must_use]
    pub fn sh(&self, script: &str, change: impl FnOnce(&mut Value)) -> Outcome {
        self.run(&["sh", "-c", script], change)
    }

    /// The state of a container.
    #[must_use]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(self.call(&["state", id]).ok()).expect("state is JSON")
    }

    /// Names in the state directory: nothing, where all went.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).expect("readable");
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in self.left() {
            drop(self.call(&["delete", "--force", &id]));
        }
    }
}

/// Whether a program is installed; says loudly that a test is skipped where it is not.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

fn config(arguments: &[&str]) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs" },
        "hostname": "bundle",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
