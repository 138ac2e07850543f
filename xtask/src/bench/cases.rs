//! What is measured and which ratio is wanted. A case gives one figure per competitor, ferry's first.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::measure::{self, Figure};
use super::peers::Field;
use crate::host;

/// One measurement.
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    /// Unit of the figures; for `ms`, `MiB` and the like, less is better; for `MB/s`, more is.
    pub unit: &'static str,
    /// The command as a reader would type it.
    pub command: &'static str,
    /// What ferry's figure should be in relation to a peer's: (peer, ratio).
    pub wanted: &'static [(&'static str, f64)],
    /// Measures all competitors.
    pub measure: fn(&Field) -> Result<Vec<Figure>>,
}

/// All cases.
pub const ALL: &[Case] = &[
    Case {
        name: "run, no network",
        unit: "ms",
        command: "run --rm --network none busybox true",
        wanted: &[("docker", 1.0 / 20.0)],
        measure: run_none,
    },
    Case {
        name: "run, bridge",
        unit: "ms",
        command: "run --rm busybox true",
        wanted: &[("docker", 1.0 / 30.0)],
        measure: run_bridge,
    },
    Case {
        name: "run, published port",
        unit: "ms",
        command: "run --rm -p 18080:80 busybox true",
        wanted: &[("docker", 1.0 / 30.0)],
        measure: run_port,
    },
    Case {
        name: "exec",
        unit: "ms",
        command: "exec CONTAINER true",
        wanted: &[("docker", 1.0 / 8.0)],
        measure: exec,
    },
    Case {
        name: "8 runs in parallel",
        unit: "ms",
        command: "run --rm --network none busybox true, 8 at once",
        wanted: &[("docker", 1.0 / 12.0)],
        measure: parallel_8,
    },
    Case {
        name: "100 runs in parallel",
        unit: "ms",
        command: "run --rm --network none busybox true, 100 at once (Debian's dockerd hangs at 20)",
        wanted: &[],
        measure: parallel_100,
    },
    Case {
        name: "--version",
        unit: "ms",
        command: "--version",
        wanted: &[("docker", 1.0 / 5.0)],
        measure: version,
    },
    Case {
        name: "log intake, detached",
        unit: "MB/s",
        command: "run debian:bookworm sh -c 'yes … | head -c 200000000', json-file, run -d and wait",
        wanted: &[("docker", 15.0), ("podman", 4.0)],
        measure: log_intake,
    },
    Case {
        name: "log read back",
        unit: "MB/s",
        command: "logs CONTAINER >/dev/null, of 200 MB in lines of 41 bytes",
        wanted: &[("docker", 30.0)],
        measure: log_read,
    },
    Case {
        name: "idle memory",
        unit: "MiB",
        command: "PSS of all engine processes, no container (ferry: keeper + engine + launcher; docker: dockerd + containerd)",
        wanted: &[],
        measure: idle_memory,
    },
    Case {
        name: "memory per idle container",
        unit: "MiB",
        command: "PSS of what stays alive for one `run -d --network none busybox sleep 1000`, mean of 8",
        wanted: &[],
        measure: container_memory,
    },
];

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
    let exec = ["exec", "bench-exec", "true"];
    let figures = measure::interleaved(
        20,
        &[
            ("ferry", field.command("ferry", &exec)),
            ("docker", field.command("docker", &exec)),
            ("podman", field.podman(&exec)),
        ],
    );
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
    let (mut ferry, mut docker) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        ferry.push(at_once(8, &field.command("ferry", TRUE))?);
        docker.push(at_once(8, &field.command("docker", TRUE))?);
    }
    Ok(vec![Figure::new("ferry", ferry)?, Figure::new("docker", docker)?])
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

const LOG_BYTES: f64 = 200e6;
const LOG_SCRIPT: &str = "yes 0123456789012345678901234567890123456789 | head -c 200000000";

fn log_run(name: &str) -> Vec<String> {
    let run = ["run", "-d", "--network", "none", "--name", name, "debian:bookworm", "sh", "-c", LOG_SCRIPT];
    run.iter().map(ToString::to_string).collect()
}

fn megabytes_per_second(commands: &[Vec<String>]) -> Result<f64> {
    let start = Instant::now();
    for command in commands {
        measure::milliseconds(command)?;
    }
    Ok(LOG_BYTES / 1e6 / start.elapsed().as_secs_f64())
}

fn log_intake(field: &Field) -> Result<Vec<Figure>> {
    let (mut ferry, mut docker, mut podman) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        for (who, samples) in [("ferry", &mut ferry), ("docker", &mut docker)] {
            let run = log_run("bench-log");
            let run: Vec<&str> = run.iter().map(String::as_str).collect();
            let commands = [field.command(who, &run), field.command(who, &["wait", "bench-log"])];
            samples.push(megabytes_per_second(&commands)?);
            measure::milliseconds(&field.command(who, &["rm", "-f", "bench-log"]))?;
        }
        let name = format!("bench-log-{round}");
        let run = log_run(&name);
        let run: Vec<&str> =
            ["--log-driver", "k8s-file"].into_iter().chain(run.iter().skip(1).map(String::as_str)).collect();
        podman.push(megabytes_per_second(&[field.podman_run(&run), field.podman(&["wait", &name])])?);
        measure::milliseconds(&field.podman(&["rm", "-f", &name]))?;
    }
    Ok(vec![Figure::new("ferry", ferry)?, Figure::new("docker", docker)?, Figure::new("podman", podman)?])
}

fn log_read(field: &Field) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (who, rounds) in [("ferry", 5), ("docker", 1)] {
        let mut run = log_run("bench-read");
        if who == "ferry" {
            // Docker does not rotate by default; reading back all of it needs the same of ferry.
            run.splice(1..1, ["--log-opt".to_owned(), "max-size=-1".to_owned()]);
        }
        let run: Vec<&str> = run.iter().map(String::as_str).collect();
        measure::milliseconds(&field.command(who, &run))?;
        measure::milliseconds(&field.command(who, &["wait", "bench-read"]))?;
        let samples = (0..rounds)
            .map(|_| megabytes_per_second(&[field.command(who, &["logs", "bench-read"])]))
            .collect::<Result<_>>()?;
        figures.push(Figure::new(who, samples)?);
        measure::milliseconds(&field.command(who, &["rm", "-f", "bench-read"]))?;
    }
    Ok(figures)
}

fn sum_pss(pids: &[u32]) -> Result<f64> {
    let kib = pids.iter().map(|pid| measure::pss_kib(*pid)).sum::<Result<f64>>()?;
    Ok(kib / 1024.0)
}

fn engine_processes(field: &Field) -> Result<[(&'static str, Vec<u32>); 2]> {
    let root = field.root.display().to_string();
    let ferry = measure::processes_with(&["ferry", &format!("{root}/ferry-")]);
    let dockerd = field.dockerd_pid().context("dockerd runs")?;
    let children = host::output_of(Command::new("pgrep").args(["-P", &dockerd.to_string()]))?;
    let containerd = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    Ok([("ferry", ferry), ("docker", [dockerd].into_iter().chain(containerd).collect())])
}

fn idle_memory(field: &Field) -> Result<Vec<Figure>> {
    thread::sleep(Duration::from_secs(1));
    engine_processes(field)?.into_iter().map(|(who, pids)| Figure::new(who, vec![sum_pss(&pids)?])).collect()
}

fn container_memory(field: &Field) -> Result<Vec<Figure>> {
    let names: Vec<String> = (0..8).map(|index| format!("bench-idle-{index}")).collect();
    for who in ["ferry", "docker"] {
        for name in &names {
            let run = ["run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "1000"];
            measure::milliseconds(&field.command(who, &run))?;
        }
    }
    thread::sleep(Duration::from_secs(1));
    let root = field.root.display().to_string();
    let shims = measure::processes_with(&["ferry-shim"]);
    let containerd_shims = measure::processes_with(&["containerd-shim", &root]);
    let figures = vec![
        Figure::new("ferry", vec![sum_pss(&shims)? / 8.0])?,
        Figure::new("docker", vec![sum_pss(&containerd_shims)? / 8.0])?,
    ];
    for who in ["ferry", "docker"] {
        let remove: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        measure::milliseconds(&field.command(who, &remove))?;
    }
    Ok(figures)
}
