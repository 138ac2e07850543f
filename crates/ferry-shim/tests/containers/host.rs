//! A launcher of its own and a place for containers, removed when the case is over.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry_oci::runtime::Spec;
use ferry_runtime::Rootfs;
use ferry_shim::client::{LauncherClient, ShimClient};
use ferry_shim::protocol::{ExitRecord, LaunchConfig, LogConfig, ShimEvent, ShimRequest, VERSION};

pub struct Host {
    pub root: PathBuf,
    pub launcher: Child,
    pub client: LauncherClient,
    name: String,
    next: u32,
}

/// Why containers cannot be run here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    if busybox().is_none() {
        return Some("needs busybox-static".into());
    }
    ferry_runtime::cgroup::detect().err().map(|error| error.to_string())
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists())
}

impl Host {
    pub fn new(name: &str) -> Host {
        let root = std::env::temp_dir().join(format!("ferry-shim-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let bin = root.join("image/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for directory in ["proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(root.join("image").join(directory)).unwrap();
        }
        std::fs::copy(busybox().unwrap(), bin.join("busybox")).unwrap();
        let applets =
            "sh cat echo true false sleep yes head sha256sum seq stty id dd kill ps wc tr printf grep";
        for applet in applets.split(' ') {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let run_root = root.join("run");
        std::fs::create_dir_all(&run_root).unwrap();
        let launcher = start_launcher(&run_root);
        let client = connect(&run_root);
        Host { root, launcher, client, name: name.to_owned(), next: 0 }
    }

    /// A launch of `command` with a log that is never rotated.
    pub fn config(&mut self, command: &[&str]) -> LaunchConfig {
        self.next += 1;
        let id = format!("{:0>12}{:x>20}{:0>32}", self.next, std::process::id(), 7);
        let data_dir = self.root.join("data").join(&id);
        for directory in ["upper", "work"] {
            std::fs::create_dir_all(data_dir.join(directory)).unwrap();
        }
        LaunchConfig {
            gated: false,
            version: VERSION,
            generation: 1,
            run_dir: self.root.join("run/containers").join(&id),
            spec: spec(command, &format!("/ferry-shim-test/{}-{}/{}", self.name, std::process::id(), id)),
            rootfs: Rootfs::Overlay {
                lowers: vec![self.root.join("image")],
                upper: data_dir.join("upper"),
                work: data_dir.join("work"),
                volatile: false,
            },
            seccomp: None,
            terminal: None,
            open_stdin: false,
            stdin_once: false,
            log: LogConfig::JsonFile {
                path: data_dir.join(format!("{id}-json.log")),
                max_size: None,
                max_file: 1,
                compress: false,
                attrs: Default::default(),
            },
            durable: false,
            init: false,
            data_dir,
            id,
        }
    }

    pub fn launch(&mut self, config: LaunchConfig) -> ShimClient {
        self.client.launch(config).unwrap().1
    }

    /// Runs a shell script to its end.
    pub fn run(&mut self, script: &str) -> (LaunchConfig, ExitRecord) {
        let config = self.config(&["sh", "-c", script]);
        let mut shim = self.launch(config.clone());
        let record = wait_exit(&mut shim);
        shim.call(ShimRequest::Release).unwrap();
        assert!(shim.wait_closed());
        (config, record)
    }

    /// Ends the launcher and asserts that nothing of any container is left.
    pub fn assert_clean(mut self) {
        let launcher = self.launcher.id();
        wait_until("all shims ended", || children(launcher).into_iter().all(waits_for_a_launch));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.root.to_str().unwrap()), "a mount is left");
        let cgroups = format!("ferry-shim-test/{}-{}", self.name, std::process::id());
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(&cgroups);
            let left = std::fs::read_dir(&path).map(|entries| {
                entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count()
            });
            assert!(left.unwrap_or(0) == 0, "cgroups are left in {}", path.display());
            let _ = std::fs::remove_dir(&path);
        }
        let run_dirs = self.root.join("run/containers");
        for directory in std::fs::read_dir(run_dirs).into_iter().flatten() {
            let socket = directory.unwrap().path().join("shim.sock");
            assert!(!socket.exists(), "{} is left", socket.display());
        }
        self.stop();
        std::fs::remove_dir_all(&self.root).unwrap();
    }

    fn stop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_launcher(run_root: &Path) -> Child {
    Command::new("/proc/self/exe")
        .arg("launcher")
        .arg(run_root)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn connect(run_root: &Path) -> LauncherClient {
    let mut client = None;
    wait_until("the launcher listens", || {
        client = LauncherClient::connect(run_root).ok();
        client.is_some()
    });
    client.unwrap()
}

pub fn wait_exit(shim: &mut ShimClient) -> ExitRecord {
    let ended = shim.wait_for(|event| match event {
        ShimEvent::Exited(record) => Some(Ok(record.clone())),
        ShimEvent::StartFailed { message, .. } => Some(Err(message.clone())),
        _ => None,
    });
    ended.unwrap().unwrap()
}

pub fn wait_started(shim: &mut ShimClient) -> i32 {
    let started = shim.wait_for(|event| match event {
        ShimEvent::Started { pid, .. } => Some(Ok(*pid)),
        ShimEvent::StartFailed { message, .. } => Some(Err(message.clone())),
        _ => None,
    });
    started.unwrap().unwrap()
}

/// Waits for a condition that another process brings about.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a child of the launcher is the shim of the next launch.
fn waits_for_a_launch(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("ferry-embryo"))
}

/// Process ids of a process's children.
pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// The text of a container's log.
pub fn log_text(config: &LaunchConfig) -> Vec<u8> {
    use ferry_shim::log::reader::{Format, LogReader, ReadOptions};
    let LogConfig::JsonFile { path, .. } = &config.log else { panic!("no log") };
    let mut reader = LogReader::open(path, ReadOptions::default()).unwrap();
    let mut out = Vec::new();
    reader.read_into(&mut out, &Format::default(), usize::MAX).unwrap();
    out
}

fn spec(command: &[&str], cgroup: &str) -> Spec {
    let value = serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": command, "cwd": "/",
            "env": ["PATH=/bin"], "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}
            ]
        }
    });
    serde_json::from_value(value).unwrap()
}
