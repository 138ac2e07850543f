//! Networks: published ports, throughput, names, and taking many containers away.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::{ENGINES, Field};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "100 runs with ports in parallel",
        unit: "ms",
        command: "run -d -p PORT:80 busybox sleep 1000, 100 at once (Debian's dockerd hangs at 20)",
        wanted: &[],
        limit: None,
        measure: parallel_ports,
    },
    Case {
        name: "1,000th published port",
        unit: "ms",
        command: "run --rm -p 30000:80 busybox true, before and after 999 other ports were published",
        wanted: &[("with no other port", 1.5)],
        limit: None,
        measure: thousandth_port,
    },
    Case {
        name: "rm -f of 100 containers",
        unit: "ms",
        command: "rm -f of 100 containers that run `sleep` on the default bridge",
        wanted: &[("docker", 1.0 / 10.0)],
        limit: None,
        measure: remove_100,
    },
    Case {
        name: "throughput, host to published port",
        unit: "GB/s",
        command: "iperf3 -c HOST_ADDRESS -p PORT -t 2 against a container; veth: against its own address",
        wanted: &[("docker", 1.0), ("veth", 0.9)],
        limit: None,
        measure: throughput,
    },
    Case {
        name: "DNS answers",
        unit: "1/s",
        command: "dnsperf -s 127.0.0.11 in a container, one name of its network",
        wanted: &[],
        limit: Some(20_000.0),
        measure: dns,
    },
];

fn parallel_ports(field: &Field) -> Result<Vec<Figure>> {
    let commands: Vec<Vec<String>> = (0..100)
        .map(|index| {
            let (name, port) = (format!("bench-port-{index}"), format!("{}:80", 21_000 + index));
            field.command("ferry", &["run", "-d", "--name", &name, "-p", &port, "busybox", "sleep", "1000"])
        })
        .collect();
    let start = Instant::now();
    let result = thread::scope(|scope| {
        let runs: Vec<_> =
            commands.iter().map(|command| scope.spawn(|| measure::milliseconds(command))).collect();
        runs.into_iter().try_for_each(|run| match run.join() {
            Ok(result) => result.map(drop),
            Err(_) => bail!("a run panicked"),
        })
    });
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    field.remove_all("ferry")?;
    result?;
    Ok(vec![Figure::new("ferry", vec![elapsed])?])
}

fn thousandth_port(field: &Field) -> Result<Vec<Figure>> {
    let run = field.command("ferry", &["run", "--rm", "-p", "30000:80", "busybox", "true"]);
    let times = |rounds| (0..rounds).map(|_| measure::milliseconds(&run)).collect::<Result<Vec<f64>>>();
    times(3)?;
    let before = times(15)?;
    let many = ["run", "-d", "-p", "31000-31998:1000-1998", "busybox", "sleep", "1000"];
    measure::milliseconds(&field.command("ferry", &many))?;
    let after = times(15);
    field.remove_all("ferry")?;
    Ok(vec![Figure::new("ferry", after?)?, Figure::new("with no other port", before)?])
}

fn remove_100(field: &Field) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for who in ENGINES {
        for _ in 0..100 {
            measure::milliseconds(&field.command(who, &["run", "-d", "busybox", "sleep", "1000"]))?;
        }
        let list = measure::output(&field.command(who, &["ps", "-aq"]))?;
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(list.split_whitespace()).collect();
        figures.push(Figure::new(who, vec![measure::milliseconds(&field.command(who, &words))?])?);
    }
    Ok(figures)
}

/// The host's own tools run in a container by way of `chroot`, since base images have none of them.
const HOST_TOOL: [&str; 7] =
    ["-v", "/:/host:ro", "-v", "/tmp:/host/tmp", "debian:bookworm", "chroot", "/host"];

fn throughput(field: &Field) -> Result<Vec<Figure>> {
    const ROUNDS: usize = 9;
    let host = host_address()?;
    let mut targets = Vec::new();
    for (who, port) in ENGINES.into_iter().zip(["15201", "15202"]) {
        let publish = format!("{port}:5201");
        let run = ["run", "-d", "--name", "bench-iperf", "-p", &publish];
        let words: Vec<&str> = run.into_iter().chain(HOST_TOOL).chain(["iperf3", "-s"]).collect();
        measure::milliseconds(&field.command(who, &words))?;
        targets.push((who, host.clone(), port));
        if who == "ferry" {
            let inspect =
                ["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "bench-iperf"];
            let address = measure::output(&field.command(who, &inspect))?;
            targets.push(("veth", address.trim().to_owned(), "5201"));
        }
    }
    thread::sleep(std::time::Duration::from_millis(300));
    let mut samples = vec![Vec::new(); targets.len()];
    for round in 0..ROUNDS {
        // Each is first in turn: whoever follows another finds a warmer machine.
        for turn in 0..targets.len() {
            let index = (round + turn) % targets.len();
            let (_, address, port) = &targets[index];
            samples[index].push(iperf(address, port)?);
        }
    }
    for who in ENGINES {
        measure::milliseconds(&field.command(who, &["rm", "-f", "bench-iperf"]))?;
    }
    targets.iter().zip(samples).map(|((who, ..), samples)| Figure::new(who, samples)).collect()
}

/// An address of this machine that is not the loopback.
fn host_address() -> Result<String> {
    let text = measure::output(&["hostname".to_owned(), "-I".to_owned()])?;
    let address = text.split_whitespace().find(|word| word.contains('.'));
    Ok(address.context("this machine has no IPv4 address")?.to_owned())
}

/// Gigabytes per second as iperf3's server received them.
fn iperf(host: &str, port: &str) -> Result<f64> {
    let command = ["iperf3", "-c", host, "-p", port, "-t", "2", "-J"].map(str::to_owned);
    let report: serde_json::Value = serde_json::from_str(&measure::output(&command)?)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 reports no rate")?;
    Ok(bits / 8e9)
}

fn dns(field: &Field) -> Result<Vec<Figure>> {
    std::fs::write(field.root.join("queries"), "bench-name A\n")?;
    let queries = field.root.join("queries").display().to_string();
    let mut figures = Vec::new();
    for who in ENGINES {
        measure::milliseconds(&field.command(who, &["network", "create", "bench-net"]))?;
        let name =
            ["run", "-d", "--name", "bench-name", "--network", "bench-net", "busybox", "sleep", "1000"];
        measure::milliseconds(&field.command(who, &name))?;
        let tool = ["dnsperf", "-s", "127.0.0.11", "-d", &queries, "-l", "3", "-c", "4"];
        let run = ["run", "--rm", "--network", "bench-net"];
        let words: Vec<&str> = run.into_iter().chain(HOST_TOOL).chain(tool).collect();
        let text = measure::output(&field.command(who, &words))?;
        let rate = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
        figures.push(Figure::new(who, vec![rate.context("dnsperf reports no rate")?.trim().parse()?])?);
        measure::milliseconds(&field.command(who, &["rm", "-f", "bench-name"]))?;
        measure::milliseconds(&field.command(who, &["network", "rm", "bench-net"]))?;
    }
    Ok(figures)
}
