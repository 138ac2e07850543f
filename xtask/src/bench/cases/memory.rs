//! Memory of what stays alive.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::Field;
use crate::host;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "idle memory",
        unit: "MiB",
        command: "PSS of all engine processes, no container (ferry: keeper + engine + launcher + waiting shim; docker: dockerd + containerd)",
        wanted: &[],
        limit: Some(20.0),
        measure: idle_memory,
    },
    Case {
        name: "memory per idle container",
        unit: "MiB",
        command: "PSS of what stays alive for one `run -d --network none busybox sleep 1000`, mean of 8",
        wanted: &[],
        limit: Some(1.0),
        measure: container_memory,
    },
    Case {
        name: "memory of 100 published ports",
        unit: "MiB",
        command: "PSS of all engine processes, more after `run -d -p 33000-33099:1000-1099 busybox sleep 1000` than before",
        wanted: &[],
        limit: Some(3.0),
        measure: port_memory,
    },
];

/// What is idle has had nothing to do for this long.
pub const SETTLED: Duration = Duration::from_secs(8);

/// Sum of the proportional set sizes, in MiB.
pub fn sum_pss(pids: &[u32]) -> Result<f64> {
    let kib = pids.iter().map(|pid| measure::pss_kib(*pid)).sum::<Result<f64>>()?;
    Ok(kib / 1024.0)
}

/// All that lives for an engine without containers, the shim that waits for the next one too.
pub fn engine_processes(field: &Field) -> Result<[(&'static str, Vec<u32>); 2]> {
    let root = field.root.display().to_string();
    let mut ferry = measure::processes_with(&["ferry", &format!("{root}/ferry-")]);
    // The launcher knows of no data.
    ferry.extend(measure::processes_with(&["launcher", &format!("{root}/run/ferry")]));
    let embryos = measure::processes_with(&["ferry-embryo"]);
    ferry.extend(
        embryos
            .into_iter()
            .filter(|pid| parent(*pid).is_some_and(|parent| ferry.contains(&parent)))
            .collect::<Vec<_>>(),
    );
    let dockerd = field.dockerd_pid().context("dockerd runs")?;
    let children = host::output_of(Command::new("pgrep").args(["-P", &dockerd.to_string()]))?;
    let containerd = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    Ok([("ferry", ferry), ("docker", [dockerd].into_iter().chain(containerd).collect())])
}

/// A process's parent (proc_pid_stat(5), field 4).
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn idle_memory(field: &Field) -> Result<Vec<Figure>> {
    thread::sleep(SETTLED);
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
    thread::sleep(SETTLED);
    let root = field.root.display().to_string();
    // A shim's title ends with its container's short id; engines of others may have some, too.
    let ids = measure::output(&field.command("ferry", &["ps", "-q"]))?;
    let shims: Vec<u32> =
        ids.split_whitespace().flat_map(|id| measure::processes_with(&["ferry-shim", id])).collect();
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

fn port_memory(field: &Field) -> Result<Vec<Figure>> {
    let of_engine = |who| {
        let all = engine_processes(field)?;
        let (_, pids) = all.into_iter().find(|(one, _)| *one == who).context("a known engine")?;
        sum_pss(&pids)
    };
    let mut figures = Vec::new();
    for who in ["ferry", "docker"] {
        let run = |name, publish: &[&str]| {
            let words = [&["run", "-d", "--name", name][..], publish, &["busybox", "sleep", "1000"]].concat();
            measure::milliseconds(&field.command(who, &words))
        };
        run("bench-plain", &[])?;
        thread::sleep(SETTLED);
        let before = of_engine(who)?;
        run("bench-ports", &["-p", "33000-33099:1000-1099"])?;
        thread::sleep(SETTLED);
        figures.push(Figure::new(who, vec![of_engine(who)? - before])?);
        measure::milliseconds(&field.command(who, &["rm", "-f", "bench-plain", "bench-ports"]))?;
    }
    Ok(figures)
}
