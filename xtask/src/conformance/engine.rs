//! The engine that a suite runs against, with images and a registry in the place of Docker Hub.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{host, images};

/// Images that the suites' tests start from.
const IMAGES: &[&str] = &["busybox", "alpine", "hello-world"];
/// What Alpine has and the factory's stand-in has not.
const ALPINE: &str = "FROM alpine\n\
    RUN mkdir -p /var/opt && echo 'guest:x:405:100:guest:/dev/null:/sbin/nologin' >> /etc/passwd && \
    echo 'postgres:x:70:70::/var/lib/postgresql:/bin/sh' >> /etc/passwd\n";
/// What the registry has.
const REGISTRY: &[&str] = &["busybox:latest", "alpine:latest", "alpine:3.10", "hello-world:latest"];
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with roots of its own, and the registry beside it.
pub struct Engine {
    binary: PathBuf,
    /// Everything of it; also the home folder of its clients.
    pub root: PathBuf,
    /// A port where the API is served beside the socket.
    pub port: u16,
    registry_port: u16,
    registry: Child,
}

impl Engine {
    /// Starts both, and fills them.
    pub fn start(binary: &Path) -> Result<Self> {
        let root = std::env::temp_dir().join(format!("ferry-conformance-{}", std::process::id()));
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(root.join("home"))?;
        fs::write(root.join("daemon.json"), "{}")?;
        let (port, registry_port) = (free_port()?, free_port()?);
        let registry = Command::new(binary)
            .args(["registry", "serve", "-q", "--listen", &format!("127.0.0.1:{registry_port}"), "--root"])
            .arg(root.join("registry"))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the registry")?;
        let engine = Self { binary: binary.to_owned(), root, port, registry_port, registry };
        engine.start_engine()?;
        engine.fill()?;
        Ok(engine)
    }

    /// In a mount namespace whose root is shared, as a host with systemd has it.
    fn start_engine(&self) -> Result<()> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "shared"]).arg(&self.binary).args(["engine", "start"]);
        self.roots(&mut command);
        command.arg("--host").arg(format!("tcp://127.0.0.1:{}", self.port));
        command.arg("--config-file").arg(self.root.join("daemon.json"));
        command.arg("--registry-mirror").arg(format!("http://127.0.0.1:{}", self.registry_port));
        host::run_command(command.stdin(Stdio::null()))
    }

    fn roots(&self, command: &mut Command) {
        command.arg("--data-root").arg(self.root.join("data")).arg("--run-root").arg(self.root.join("run"));
        command.arg("--host").arg(self.host());
    }

    /// Loads the factory's images, makes Alpine what its users expect, and puts all of them into the registry.
    fn fill(&self) -> Result<()> {
        let names: Vec<String> = IMAGES.iter().map(|&name| name.to_owned()).collect();
        for archive in images::make(&names)? {
            self.ferry(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        }
        self.build(ALPINE, &["alpine", "alpine:3.10"])?;
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.registry_port)).is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("the registry does not answer");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for image in REGISTRY {
            let there = format!("127.0.0.1:{}/library/{image}", self.registry_port);
            self.ferry(&["tag", image, &there])?;
            self.ferry(&["push", "-q", &there])?;
            self.ferry(&["rmi", &there])?;
        }
        Ok(())
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    fn build(&self, dockerfile: &str, names: &[&str]) -> Result<()> {
        let folder = self.root.join("build");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("Dockerfile"), dockerfile)?;
        let mut arguments = vec!["build", "-q"];
        arguments.extend(names.iter().flat_map(|name| ["-t", *name]));
        let folder = folder.to_string_lossy();
        self.ferry(&[&arguments[..], &[&folder]].concat()).map(drop)
    }

    /// `--host` of its socket.
    pub fn host(&self) -> String {
        format!("unix://{}", self.root.join("docker.sock").display())
    }

    /// A command whose clients find this engine, and whose settings are nobody else's.
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.root.join("home");
        command.env("DOCKER_HOST", self.host()).env("HOME", &home).env("DOCKER_CONFIG", home.join(".docker"));
        command.env("CONFORMANCE_TCP", format!("tcp://127.0.0.1:{}", self.port)).stdin(Stdio::null());
        command
    }

    fn ferry(&self, arguments: &[&str]) -> Result<String> {
        host::output_of(self.client(&self.binary).args(arguments))
    }

    /// Ends both and removes what they had.
    pub fn stop(mut self) -> Result<()> {
        let left = self.ferry(&["ps", "-aq"])?;
        for id in left.split_whitespace() {
            self.ferry(&["rm", "-f", "-v", id])?;
        }
        let mut command = Command::new(&self.binary);
        command.args(["engine", "stop"]);
        self.roots(&mut command);
        host::run_command(&mut command)?;
        self.registry.kill().context("cannot end the registry")?;
        self.registry.wait()?;
        fs::remove_dir_all(&self.root).with_context(|| format!("cannot remove {}", self.root.display()))
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
