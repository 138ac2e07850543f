//! The competitors: each started with private roots and socket, stopped by its own pid when the run ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{host, images};

/// All competitors, ready to be called.
pub struct Field {
    /// Folder of all private roots.
    pub root: PathBuf,
    binary: PathBuf,
    dockerd: Option<Child>,
}

/// The two that speak the same API.
pub const ENGINES: [&str; 2] = ["ferry", "docker"];

/// podman without CAP_SYS_RESOURCE cannot raise limits, so it is told to ask for less.
const PODMAN_LIMITS: &[&str] = &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

impl Field {
    /// Starts ferry's engine and dockerd, and loads the base images into all of them.
    pub fn start(binary: &Path) -> Result<Self> {
        let root = std::env::temp_dir().join(format!("ferry-bench-{}", std::process::id()));
        fs::create_dir_all(&root)?;
        let mut field = Self { root, binary: binary.to_path_buf(), dockerd: None };
        let memory = field.root.join("run");
        fs::create_dir_all(&memory)?;
        host::run_command(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(memory))?;
        host::run_command(
            Command::new(&field.binary)
                .args(["engine", "start", "--data-root"])
                .arg(field.root.join("ferry-data"))
                .arg("--run-root")
                .arg(field.runtime_folder("ferry"))
                .args(["--host", &field.ferry_host()]),
        )?;
        field.dockerd = Some(field.start_dockerd()?);
        field.load_images()?;
        field.make_bundle()?;
        Ok(field)
    }

    /// Where a competitor keeps what does not outlive the machine: in memory, as under `/run` of an ordinary one.
    fn runtime_folder(&self, who: &str) -> PathBuf {
        self.root.join("run").join(who)
    }

    /// Ferry's program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The socket of an engine's API.
    pub fn socket(&self, who: &str) -> PathBuf {
        self.root.join(format!("{who}.sock"))
    }

    fn ferry_host(&self) -> String {
        format!("unix://{}/ferry.sock", self.root.display())
    }

    fn docker_host(&self) -> String {
        format!("unix://{}/docker.sock", self.root.display())
    }

    fn start_dockerd(&self) -> Result<Child> {
        let log = fs::File::create(self.root.join("dockerd.log"))?;
        let child = Command::new("/usr/sbin/dockerd")
            .arg("--data-root")
            .arg(self.root.join("docker-data"))
            .arg("--exec-root")
            .arg(self.runtime_folder("docker"))
            .arg("--pidfile")
            .arg(self.root.join("docker.pid"))
            .args(["--host", &self.docker_host(), "--insecure-registry", "127.0.0.0/8"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let start = Instant::now();
        while Command::new("/usr/bin/docker")
            .args(["-H", &self.docker_host(), "version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?
            .code()
            != Some(0)
        {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("dockerd did not answer within 60 s; see {}", self.root.join("dockerd.log").display());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(child)
    }

    fn load_images(&self) -> Result<()> {
        for archive in images::make(&["busybox".into(), "debian".into()])? {
            let archive = archive.to_string_lossy().into_owned();
            for who in ["ferry", "docker"] {
                let command = self.command(who, &["load", "-q", "-i", &archive]);
                host::run_command(Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()))?;
            }
            let load = self.podman(&["load", "-q", "-i", &archive]);
            host::run_command(Command::new(&load[0]).args(&load[1..]).stdout(Stdio::null()))?;
        }
        Ok(())
    }

    /// A bundle for `runc run` and `crun run`: busybox and runc's default specification, running `true`.
    fn make_bundle(&self) -> Result<()> {
        let bundle = self.bundle();
        fs::create_dir_all(bundle.join("rootfs"))?;
        let archive = images::make(&["busybox".into()])?.remove(0);
        let unpack = format!(
            "tar -xOf {} --wildcards '*/layer.tar' | tar -xf - -C {}",
            archive.display(),
            bundle.join("rootfs").display()
        );
        host::run_command(Command::new("sh").args(["-c", &unpack]))?;
        host::run_command(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?;
        let path = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["args"] = serde_json::json!(["true"]);
        config["process"]["terminal"] = false.into();
        config["process"]["rlimits"] = serde_json::json!([]);
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(())
    }

    /// The bundle's folder.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    /// A bundle like that one whose process sleeps.
    pub fn sleeping_bundle(&self) -> Result<PathBuf> {
        let bundle = self.root.join("bundle-asleep");
        fs::create_dir_all(&bundle)?;
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(self.bundle().join("config.json"))?)?;
        config["process"]["args"] = serde_json::json!(["sleep", "1000"]);
        config["root"]["path"] = self.bundle().join("rootfs").display().to_string().into();
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }

    /// The command line of `ferry` or `docker` with arguments.
    pub fn command(&self, who: &str, arguments: &[&str]) -> Vec<String> {
        let (program, host) = match who {
            "ferry" => (self.binary.to_string_lossy().into_owned(), self.ferry_host()),
            _ => ("/usr/bin/docker".to_owned(), self.docker_host()),
        };
        [program, "-H".into(), host].into_iter().chain(arguments.iter().map(ToString::to_string)).collect()
    }

    /// `build` by one of the builders, with arguments.
    pub fn build(&self, who: &str, arguments: &[&str]) -> Vec<String> {
        let words: Vec<&str> = ["build"].into_iter().chain(arguments.iter().copied()).collect();
        let with_variable = |value: &str, command: Vec<String>| {
            ["env".to_owned(), value.to_owned()].into_iter().chain(command).collect()
        };
        match who {
            "docker" => with_variable("DOCKER_BUILDKIT=0", self.command("docker", &words)),
            "docker BuildKit" => with_variable("DOCKER_BUILDKIT=1", self.command("docker", &words)),
            "buildah" => self.buildah(&words),
            other => self.command(other, &words),
        }
    }

    /// buildah over podman's storage, so that it finds the base images there.
    fn buildah(&self, words: &[&str]) -> Vec<String> {
        let root = self.root.join("podman-data").display().to_string();
        let run = self.runtime_folder("podman").display().to_string();
        let fixed = ["buildah", "--root", &root, "--runroot", &run];
        let (verb, rest) = words.split_at(1);
        let limits = ["--runtime", "runc", "--isolation", "oci", "--pull-never"];
        fixed
            .iter()
            .chain(verb)
            .chain(&limits)
            .chain(PODMAN_LIMITS)
            .chain(rest)
            .map(ToString::to_string)
            .collect()
    }

    /// `compose` by ferry, or by docker-compose 1.29 over Debian's dockerd.
    pub fn compose(&self, who: &str, arguments: &[&str]) -> Vec<String> {
        if who == "ferry" {
            let words: Vec<&str> = ["compose"].into_iter().chain(arguments.iter().copied()).collect();
            return self.command("ferry", &words);
        }
        let fixed = ["/usr/bin/docker-compose".to_owned(), "-H".into(), self.docker_host()];
        fixed.into_iter().chain(arguments.iter().map(ToString::to_string)).collect()
    }

    /// Removes every container of an engine.
    pub fn remove_all(&self, who: &str) -> Result<()> {
        let list = self.command(who, &["ps", "-aq"]);
        let ids = host::output_of(Command::new(&list[0]).args(&list[1..]))?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            let remove = self.command(who, &[&["rm", "-f"], ids.as_slice()].concat());
            host::output_of(Command::new(&remove[0]).args(&remove[1..]))?;
        }
        Ok(())
    }

    /// The command line of podman with arguments.
    pub fn podman(&self, arguments: &[&str]) -> Vec<String> {
        let root = self.root.join("podman-data").display().to_string();
        let run = self.runtime_folder("podman").display().to_string();
        let fixed = [
            "podman",
            "--root",
            &root,
            "--runroot",
            &run,
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
        ];
        fixed.iter().chain(arguments).map(ToString::to_string).collect()
    }

    /// `podman run` with the limits that this machine allows.
    pub fn podman_run(&self, arguments: &[&str]) -> Vec<String> {
        let all: Vec<&str> = ["run"].iter().chain(PODMAN_LIMITS).chain(arguments).copied().collect();
        self.podman(&all)
    }

    /// `crun run` of the bundle, in a mount namespace without the unified cgroup hierarchy, which crun refuses
    /// beside version 1.
    pub fn shell(&self, script: &str) -> Vec<String> {
        vec!["sh".into(), "-c".into(), script.replace("BUNDLE", &self.bundle().display().to_string())]
    }

    /// The pid of the running dockerd.
    pub fn dockerd_pid(&self) -> Option<u32> {
        self.dockerd.as_ref().map(Child::id)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for who in ENGINES {
            self.remove_all(who).ok();
        }
        Command::new(&self.binary)
            .args(["engine", "stop", "--data-root"])
            .arg(self.root.join("ferry-data"))
            .arg("--run-root")
            .arg(self.runtime_folder("ferry"))
            .args(["--host", &self.ferry_host()])
            .status()
            .ok();
        if let Some(dockerd) = &mut self.dockerd {
            Command::new("kill").arg(dockerd.id().to_string()).status().ok();
            dockerd.wait().ok();
        }
        let reset = self.podman(&["rm", "-fa"]);
        Command::new(&reset[0]).args(&reset[1..]).stdout(Stdio::null()).status().ok();
        let mounts = ["podman-data/overlay", "docker-data/overlay2", "run/docker/netns/default", "run"];
        for mount in mounts {
            let place = self.root.join(mount);
            Command::new("umount").args(["-q", "-l"]).arg(place).stderr(Stdio::null()).status().ok();
        }
        fs::remove_dir_all(&self.root).ok();
    }
}
