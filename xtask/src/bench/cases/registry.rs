//! Images from and to a registry on this machine: 5 layers, about 850 MB unpacked.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::{ENGINES, Field};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "pull, 5 layers, 850 MB",
        unit: "ms",
        command: "pull 127.0.0.1:PORT/large, image removed before each round",
        wanted: &[("docker", 1.0 / 3.0)],
        limit: None,
        measure: pull,
    },
    Case {
        name: "push, 5 layers, 850 MB",
        unit: "ms",
        command: "push 127.0.0.1:PORT/large to an empty registry",
        wanted: &[("docker", 1.0 / 2.0)],
        limit: None,
        measure: push,
    },
];

/// Cases of memory, apart from those of time: nothing else is measured meanwhile.
pub const MEMORY_CASES: &[Case] = &[Case {
    name: "peak memory of a pull",
    unit: "MiB",
    command: "largest resident size of all engine processes while `pull 127.0.0.1:PORT/large` (850 MB) goes on",
    wanted: &[],
    limit: Some(64.0),
    measure: pull_memory,
}];

/// Debian's docker-registry with a folder of its own; ends when dropped.
struct Registry {
    child: Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Registry {
    fn start(field: &Field, port: u16) -> Result<Self> {
        let folder = field.root.join(format!("registry-{port}"));
        fs::create_dir_all(&folder)?;
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\n",
            folder.display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start docker-registry")?;
        let registry = Self { child, port, folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("docker-registry does not listen on port {port}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/large", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Builds the image with both engines: a base system and four layers of copies of its larger folders.
fn make_image(field: &Field) -> Result<()> {
    let folder = field.root.join("large-image");
    fs::create_dir_all(&folder)?;
    let steps: String = (1..=4)
        .map(|index| {
            format!("RUN cp -a /usr /copy-{index} && head -c 40000000 /dev/urandom > /copy-{index}/random\n")
        })
        .collect();
    fs::write(folder.join("Dockerfile"), format!("FROM debian:bookworm\n{steps}"))?;
    let folder = folder.display().to_string();
    for who in ENGINES {
        measure::milliseconds(&field.build(who, &["-q", "-t", "bench-large", &folder]))?;
    }
    Ok(())
}

/// A registry that holds the image, which docker has pushed and knows by that name only.
fn filled_registry(field: &Field, port: u16) -> Result<Registry> {
    make_image(field)?;
    let registry = Registry::start(field, port)?;
    let image = registry.image();
    measure::milliseconds(&field.command("docker", &["tag", "bench-large", &image]))?;
    measure::milliseconds(&field.command("docker", &["push", "-q", &image]))?;
    // What was built here must not be found here.
    for who in ENGINES {
        measure::milliseconds(&field.command(who, &["rmi", "bench-large"]))?;
        measure::milliseconds(&field.command(who, &["builder", "prune", "-af"]))?;
    }
    Ok(registry)
}

fn pull_memory(field: &Field) -> Result<Vec<Figure>> {
    let registry = filled_registry(field, 15_030)?;
    let image = registry.image();
    measure::milliseconds(&field.command("docker", &["rmi", &image]))?;
    let mut figures = Vec::new();
    for (who, pids) in super::memory::engine_processes(field)? {
        let pull = || measure::milliseconds(&field.command(who, &["pull", "-q", &image])).map(|_| ());
        figures.push(Figure::new(who, vec![measure::peak_mib(&pids, pull)?])?);
        measure::milliseconds(&field.command(who, &["rmi", &image]))?;
    }
    Ok(figures)
}

fn pull(field: &Field) -> Result<Vec<Figure>> {
    let registry = filled_registry(field, 15_000)?;
    let image = registry.image();
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (who, samples) in ENGINES.into_iter().zip(&mut samples) {
            if !samples.is_empty() || who == "docker" {
                measure::milliseconds(&field.command(who, &["rmi", &image]))?;
            }
            samples.push(measure::milliseconds(&field.command(who, &["pull", "-q", &image]))?);
        }
        let pull = field.podman(&["pull", "-q", "--tls-verify=false", &image]);
        samples[2].push(measure::milliseconds(&pull)?);
        measure::milliseconds(&field.podman(&["rmi", &image]))?;
    }
    ["ferry", "docker", "podman"].into_iter().zip(samples).map(|(who, s)| Figure::new(who, s)).collect()
}

fn push(field: &Field) -> Result<Vec<Figure>> {
    make_image(field)?;
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..2 {
        for (index, who) in ENGINES.into_iter().enumerate() {
            let registry = Registry::start(field, 15_010 + round * 2 + u16::try_from(index)?)?;
            let image = registry.image();
            measure::milliseconds(&field.command(who, &["tag", "bench-large", &image]))?;
            samples[index].push(measure::milliseconds(&field.command(who, &["push", "-q", &image]))?);
            measure::milliseconds(&field.command(who, &["rmi", &image]))?;
        }
    }
    ENGINES.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}
