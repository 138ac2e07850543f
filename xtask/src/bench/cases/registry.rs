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
        command: "pull 127.0.0.1:PORT/large, image removed before each round; floor: the longer of gunzip of its blobs to nowhere and tar -x of them, unpacked, two at once",
        wanted: &[("docker", 1.0 / 3.0), (FLOOR, 1.3)],
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

/// What no pull can be faster than: the larger of two.
const FLOOR: &str = "floor";
const GUNZIP: &str = "gunzip";
const UNTAR: &str = "untar";

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
    const ROUNDS: usize = 5;
    let registry = filled_registry(field, 15_000)?;
    let image = registry.image();
    let floor = Floor::prepare(field, &registry)?;
    let who = ["ferry", "docker", "podman", GUNZIP, UNTAR, FLOOR];
    let mut samples: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        for (who, samples) in ENGINES.into_iter().zip(&mut samples) {
            if !samples.is_empty() || who == "docker" {
                measure::milliseconds(&field.command(who, &["rmi", &image]))?;
            }
            samples.push(measure::milliseconds(&field.command(who, &["pull", "-q", &image]))?);
        }
        let pull = field.podman(&["pull", "-q", "--tls-verify=false", &image]);
        samples[2].push(measure::milliseconds(&pull)?);
        measure::milliseconds(&field.podman(&["rmi", &image]))?;
        let (gunzip, untar) = floor.measure()?;
        samples[3].push(gunzip);
        samples[4].push(untar);
        samples[5].push(gunzip.max(untar));
    }
    who.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}

/// The image's layers as they lie in the registry, and unpacked into archives.
struct Floor {
    folder: std::path::PathBuf,
}

impl Floor {
    fn prepare(field: &Field, registry: &Registry) -> Result<Self> {
        let folder = field.root.join("large-layers");
        let script = "mkdir -p $0; find $1 -name data -size +1M | while read blob; do \
                      n=$((n + 1)); cp $blob $0/$n.gz; gunzip -c $blob > $0/$n.tar; done";
        let place = folder.display().to_string();
        let registry = registry.folder.display().to_string();
        measure::milliseconds(&["sh", "-c", script, &place, &registry].map(str::to_owned))?;
        Ok(Self { folder })
    }

    fn measure(&self) -> Result<(f64, f64)> {
        let shell = |script: &str| {
            let place = self.folder.display().to_string();
            measure::milliseconds(&["sh", "-c", &format!("cd $0 && {script}"), &place].map(str::to_owned))
        };
        let gunzip = shell("ls *.gz | xargs -P 2 -n 1 sh -c 'gunzip -c $0 > /dev/null'")?;
        shell("rm -rf tree && sync -f .")?;
        let untar = shell("ls *.tar | xargs -P 2 -n 1 sh -c 'mkdir -p tree/$0 && tar -C tree/$0 -xf $0'")?;
        shell("rm -rf tree")?;
        Ok((gunzip, untar))
    }
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
