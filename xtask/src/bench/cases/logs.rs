//! Output: how fast it reaches the log and comes back out of it.

use std::time::Instant;

use anyhow::Result;

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::Field;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "log intake, detached",
        unit: "MB/s",
        command: "run debian:bookworm sh -c 'yes … | head -c 200000000', json-file, run -d and wait",
        wanted: &[("docker", 15.0), ("podman", 4.0)],
        limit: None,
        measure: log_intake,
    },
    Case {
        name: "log read back",
        unit: "MB/s",
        command: "logs CONTAINER >/dev/null, of 200 MB in lines of 41 bytes",
        wanted: &[("docker", 30.0)],
        limit: None,
        measure: log_read,
    },
];

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
