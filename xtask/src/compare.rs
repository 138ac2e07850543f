//! `cargo xtask compare-builds [NAME…]`: builds the corpus of Dockerfiles with ferry and with Debian's dockerd
//! (its classic builder) and compares the images: every file of the flattened tree, and the configuration.
//!
//! Not compared: times, ids, and what a classic build notes of its containers. Differences that are meant
//! stand in [`MEANT`], each with its reason.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::image::{Layers, Saved};
use crate::{host, images};

/// Dockerfiles whose result is meant to differ from the classic builder's.
const MEANT: &[(&str, &str)] = &[
    (
        "copy-parent-escape",
        "the classic builder refuses a source above the context; BuildKit and ferry leave out the `..`",
    ),
    ("unused-stage", "the classic builder builds stages that nobody needs; BuildKit and ferry skip them"),
];

/// How long a daemon may take to answer.
const START: Duration = Duration::from_secs(60);

/// A program that builds: its command and its socket.
struct Builder {
    name: &'static str,
    program: PathBuf,
    host: String,
}

/// Compares the corpus, or the named parts of it.
pub fn run(names: &[String]) -> Result<()> {
    if !host::is_root() {
        bail!("comparing builds starts daemons and needs root");
    }
    host::install_packages(&["docker.io"])?;
    let archives = images::make(&["busybox".to_owned(), "python".to_owned()])?;
    let work = std::env::temp_dir().join(format!("ferry-compare.{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let compared = compare_in(&work, &archives, names);
    fs::remove_dir_all(&work).ok();
    compared
}

fn compare_in(work: &Path, archives: &[PathBuf], names: &[String]) -> Result<()> {
    let dockerd = Dockerd::start(work)?;
    let ferry = Ferry::start(work)?;
    for builder in [&dockerd.builder, &ferry.builder] {
        for archive in archives {
            builder.run(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        }
    }
    let corpus = host::workspace().join("tests/dockerfiles");
    let mut found: Vec<String> = fs::read_dir(&corpus)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let (mut equal, mut differing) = (0, Vec::new());
    let mut layers = Layers::default();
    for name in found.iter().filter(|name| names.is_empty() || names.contains(name)) {
        let folder = corpus.join(name);
        if folder.join("fails").exists() {
            continue;
        }
        let differences = compare_one(&dockerd.builder, &ferry.builder, &folder, work, &mut layers)
            .with_context(|| format!("cannot compare {name}"))?;
        let meant = MEANT.iter().find(|(other, _)| other == name);
        match (differences.is_empty(), meant) {
            (true, _) => equal += 1,
            (false, Some((_, reason))) => println!("{name}: differs as meant: {reason}"),
            (false, None) => {
                differences.iter().for_each(|difference| println!("{name}: {difference}"));
                differing.push(name.as_str());
            }
        }
    }
    println!("{equal} images are equal, {} differ", differing.len());
    match differing.is_empty() {
        true => Ok(()),
        false => bail!("other results than Docker's: {}", differing.join(", ")),
    }
}

fn compare_one(
    docker: &Builder,
    ferry: &Builder,
    folder: &Path,
    work: &Path,
    layers: &mut Layers,
) -> Result<Vec<String>> {
    let mut saved = Vec::new();
    for builder in [docker, ferry] {
        let name = match builder.build(folder) {
            Ok(name) => name,
            Err(error) => return Ok(vec![format!("{error:#}")]),
        };
        let archive = work.join("image.tar");
        builder.run(&["save", "-o", &archive.to_string_lossy(), &name])?;
        saved.push(Saved::read(&archive, layers)?);
        fs::remove_file(&archive)?;
    }
    Ok(saved[0].differences(&saved[1], docker.name, ferry.name))
}

impl Builder {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command().args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} {} ended with {}: {said}", self.name, arguments.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Builds without a network, since the peer has none; gives the image's name.
    fn build(&self, folder: &Path) -> Result<String> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let tag = format!("compare-{name}");
        let folder_text = folder.to_string_lossy();
        let mut arguments = vec!["build", "-q", "--network", "none", "-t", &tag];
        let build_args = fs::read_to_string(folder.join("build-args")).unwrap_or_default();
        for line in build_args.lines() {
            arguments.extend(["--build-arg", line]);
        }
        arguments.push(&folder_text);
        self.run(&arguments)?;
        Ok(tag)
    }
}

/// A private dockerd without networks; ended on drop.
struct Dockerd {
    builder: Builder,
    process: Child,
}

impl Dockerd {
    fn start(work: &Path) -> Result<Self> {
        let host = format!("unix://{}", work.join("docker.sock").display());
        let log = fs::File::create(work.join("dockerd.log"))?;
        let mut command = Command::new("/usr/sbin/dockerd");
        command.arg("--data-root").arg(work.join("docker-data"));
        command.arg("--exec-root").arg(work.join("docker-run"));
        command.arg("--pidfile").arg(work.join("dockerd.pid"));
        command.args([
            "-H",
            &host,
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
        ]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let program = ["/usr/bin/docker", "/usr/local/bin/docker"].map(PathBuf::from);
        let program = program.into_iter().find(|path| path.is_file()).context("there is no docker client")?;
        let dockerd = Self { builder: Builder { name: "docker", program, host }, process };
        let begin = Instant::now();
        while dockerd.builder.run(&["version"]).is_err() {
            if begin.elapsed() > START {
                bail!("dockerd does not answer:\n{}", fs::read_to_string(work.join("dockerd.log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(dockerd)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // A signal that it answers by ending its own containerd, which SIGKILL would leave behind.
        Command::new("kill").arg(self.process.id().to_string()).status().ok();
        self.process.wait().ok();
    }
}

/// A private engine; ended on drop.
struct Ferry {
    builder: Builder,
    work: PathBuf,
}

impl Ferry {
    fn start(work: &Path) -> Result<Self> {
        let program = match std::env::var_os("FERRY_BINARY") {
            Some(program) => PathBuf::from(program),
            None => crate::test::build_binary()?,
        };
        let host = format!("unix://{}", work.join("ferry.sock").display());
        let ferry = Self { builder: Builder { name: "ferry", program, host }, work: work.to_owned() };
        ferry.engine("start")?;
        Ok(ferry)
    }

    fn engine(&self, verb: &str) -> Result<String> {
        let (data, run) = (self.work.join("ferry-data"), self.work.join("ferry-run"));
        let (data, run) = (data.to_string_lossy(), run.to_string_lossy());
        let host = &self.builder.host;
        self.builder.run(&["engine", verb, "--data-root", &data, "--run-root", &run, "--host", host])
    }
}

impl Drop for Ferry {
    fn drop(&mut self) {
        if let Err(error) = self.engine("stop") {
            eprintln!("the engine did not stop: {error:#}");
        }
    }
}
