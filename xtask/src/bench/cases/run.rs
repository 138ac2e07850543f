//! Starting things: run, exec, many at once, and the command's own start.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::Field;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "run, no network",
        unit: "ms",
        command: "run --rm --network none busybox true",
        wanted: &[("docker", 1.0 / 20.0)],
        limit: None,
        measure: run_none,
    },
    Case {
        name: "run, bridge",
        unit: "ms",
        command: "run --rm busybox true",
        wanted: &[("docker", 1.0 / 30.0)],
        limit: None,
        measure: run_bridge,
    },
    Case {
        name: "run, published port",
        unit: "ms",
        command: "run --rm -p 18080:80 busybox true",
        wanted: &[("docker", 1.0 / 30.0)],
        limit: None,
        measure: run_port,
    },
    Case {
        name: "OCI runtime, run of a bundle",
        unit: "ms",
        command: "ferry runtime, crun, runc: run -b BUNDLE ID, with runc's default specification and `true`; without the unified hierarchy, which crun refuses beside version 1",
        wanted: &[("crun", 0.5)],
        limit: None,
        measure: bundle,
    },
    Case {
        name: "exec",
        unit: "ms",
        command: "exec CONTAINER true; crun: without the unified hierarchy",
        wanted: &[("docker", 1.0 / 12.0), ("crun", 0.6)],
        limit: None,
        measure: exec,
    },
    Case {
        name: "8 runs in parallel",
        unit: "ms",
        command: "run --rm --network none busybox true, 8 at once",
        wanted: &[("docker", 1.0 / 12.0)],
        limit: None,
        measure: parallel_8,
    },
    Case {
        name: "8 runs on the bridge in parallel",
        unit: "ms",
        command: "run --rm busybox true, 8 at once",
        wanted: &[("docker", 1.0 / 12.0)],
        limit: None,
        measure: parallel_8_bridge,
    },
    Case {
        name: "100 runs in parallel",
        unit: "ms",
        command: "run --rm --network none busybox true, 100 at once (Debian's dockerd hangs at 20)",
        wanted: &[],
        limit: None,
        measure: parallel_100,
    },
    Case {
        name: "processor time of a run, 8 at once",
        unit: "ms",
        command: "the machine's busy time until it is quiet again, for each `run --rm --network none busybox true` of 8 at once",
        wanted: &[(ALONE, 1.3)],
        limit: None,
        measure: |field| busy(field, 8),
    },
    Case {
        name: "processor time of a run, 100 at once",
        unit: "ms",
        command: "the same of 100 at once",
        wanted: &[(ALONE, 1.3)],
        limit: None,
        measure: |field| busy(field, 100),
    },
    Case {
        name: "processor time of a run, 500 at once",
        unit: "ms",
        command: "the same of 500 at once",
        wanted: &[(ALONE, 1.3)],
        limit: None,
        measure: |field| busy(field, 500),
    },
    Case {
        name: "--version",
        unit: "ms",
        command: "--version",
        wanted: &[("docker", 1.0 / 5.0)],
        limit: None,
        measure: version,
    },
];

const ALONE: &str = "one alone";
const TRUE: &[&str] = &["run", "--rm", "--network", "none", "busybox", "true"];

/// crun refuses version 1 cgroups beside a unified hierarchy, so it runs where that is not mounted.
const CRUN: &str =
    "unshare -m sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun run -b BUNDLE bench-crun-$$'";
const RUNC: &str = "exec runc run -b BUNDLE bench-runc-$$";

fn run_none(field: &Field) -> Result<Vec<Figure>> {
    measure::interleaved(
        20,
        &[
            ("ferry", field.command("ferry", TRUE)),
            ("docker", field.command("docker", TRUE)),
            ("podman", field.podman_run(&TRUE[1..])),
            ("runc", field.shell(RUNC)),
            ("crun", field.shell(CRUN)),
        ],
    )
}

/// A mount namespace without the unified hierarchy, for as long as it lives.
struct VersionOne(Child);

impl VersionOne {
    fn make() -> Result<Self> {
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", "umount /sys/fs/cgroup/unified; echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut ready = [0];
        let output = child.stdout.take().context("it is piped");
        let made = Self(child);
        output?.read_exact(&mut ready)?;
        Ok(made)
    }

    /// A command line in it.
    fn command(&self, line: &str) -> Vec<String> {
        let line = format!("nsenter --mount=/proc/{}/ns/mnt {line}", self.0.id());
        line.split(' ').map(str::to_owned).collect()
    }

    /// Runs a command line whose children live on; they must not hold the ends of our pipes.
    fn leave(&self, line: &str) -> Result<()> {
        let words = self.command(line);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status()?;
        if !status.success() {
            bail!("`{line}` ended with {status}");
        }
        Ok(())
    }
}

impl Drop for VersionOne {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn bundle(field: &Field) -> Result<Vec<Figure>> {
    let namespace = VersionOne::make()?;
    let binary = field.binary().display().to_string();
    let run = |runtime: &str| {
        namespace.command(&format!("{runtime} run -b {} bench-bundle", field.bundle().display()))
    };
    let runtimes =
        [("ferry", run(&format!("{binary} runtime"))), ("runc", run("runc")), ("crun", run("crun"))];
    measure::interleaved(20, &runtimes)
}

fn run_bridge(field: &Field) -> Result<Vec<Figure>> {
    let run = ["run", "--rm", "busybox", "true"];
    measure::interleaved(
        15,
        &[("ferry", field.command("ferry", &run)), ("docker", field.command("docker", &run))],
    )
}

fn run_port(field: &Field) -> Result<Vec<Figure>> {
    let ferry = ["run", "--rm", "-p", "18080:80", "busybox", "true"];
    let docker = ["run", "--rm", "-p", "18081:80", "busybox", "true"];
    measure::interleaved(
        15,
        &[("ferry", field.command("ferry", &ferry)), ("docker", field.command("docker", &docker))],
    )
}

fn exec(field: &Field) -> Result<Vec<Figure>> {
    let sleeper = ["run", "-d", "--network", "none", "--name", "bench-exec", "busybox", "sleep", "1000"];
    for who in ["ferry", "docker"] {
        measure::milliseconds(&field.command(who, &sleeper))?;
    }
    measure::milliseconds(&field.podman_run(&sleeper[1..]))?;
    let namespace = VersionOne::make()?;
    let asleep = field.sleeping_bundle()?.display().to_string();
    namespace.leave(&format!("crun run -d -b {asleep} bench-exec-crun"))?;
    let exec = ["exec", "bench-exec", "true"];
    let figures = measure::interleaved(
        20,
        &[
            ("ferry", field.command("ferry", &exec)),
            ("docker", field.command("docker", &exec)),
            ("podman", field.podman(&exec)),
            ("crun", namespace.command("crun exec bench-exec-crun true")),
        ],
    );
    measure::milliseconds(&namespace.command("crun delete -f bench-exec-crun"))?;
    for who in ["ferry", "docker"] {
        measure::milliseconds(&field.command(who, &["rm", "-f", "bench-exec"]))?;
    }
    measure::milliseconds(&field.podman(&["rm", "-f", "-t", "0", "bench-exec"]))?;
    figures
}

/// Milliseconds until all of `count` commands run at once have ended well.
fn at_once(count: usize, command: &[String]) -> Result<f64> {
    let start = Instant::now();
    thread::scope(|scope| {
        let runs: Vec<_> = (0..count).map(|_| scope.spawn(|| measure::milliseconds(command))).collect();
        runs.into_iter().try_for_each(|run| match run.join() {
            Ok(result) => result.map(drop),
            Err(_) => bail!("a run panicked"),
        })
    })?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn parallel_8(field: &Field) -> Result<Vec<Figure>> {
    eight(field, TRUE)
}

fn parallel_8_bridge(field: &Field) -> Result<Vec<Figure>> {
    eight(field, &["run", "--rm", "busybox", "true"])
}

fn eight(field: &Field, run: &[&str]) -> Result<Vec<Figure>> {
    let (mut ferry, mut docker) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        ferry.push(at_once(8, &field.command("ferry", run))?);
        docker.push(at_once(8, &field.command("docker", run))?);
    }
    Ok(vec![Figure::new("ferry", ferry)?, Figure::new("docker", docker)?])
}

/// What a start costs the machine when many go on at once, and what it costs alone.
fn busy(field: &Field, count: usize) -> Result<Vec<Figure>> {
    let run = field.command("ferry", TRUE);
    at_once(2, &run)?;
    let of = |count: usize| {
        let whole = measure::busy_milliseconds(|| at_once(count, &run).map(drop))?;
        Ok(whole / f64::from(u32::try_from(count)?))
    };
    let many = (0..5).map(|_| of(count)).collect::<Result<_>>()?;
    let alone = (0..20).map(|_| of(1)).collect::<Result<_>>()?;
    Ok(vec![Figure::new("ferry", many)?, Figure::new(ALONE, alone)?])
}

fn parallel_100(field: &Field) -> Result<Vec<Figure>> {
    let samples = (0..5).map(|_| at_once(100, &field.command("ferry", TRUE))).collect::<Result<_>>()?;
    Ok(vec![Figure::new("ferry", samples)?])
}

fn version(field: &Field) -> Result<Vec<Figure>> {
    let ferry = vec![field.command("ferry", &[])[0].clone(), "--version".into()];
    let docker = vec!["/usr/bin/docker".to_owned(), "--version".into()];
    measure::interleaved(30, &[("ferry", ferry), ("docker", docker)])
}
