//! The API itself, over kept connections: answers' times, calls per second, and an engine that knows a thousand containers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Case;
use super::memory::{SETTLED, engine_processes, sum_pss};
use crate::bench::measure::{self, Figure};
use crate::bench::peers::{ENGINES, Field};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "inspect over a kept connection",
        unit: "ms",
        command: "GET /containers/NAME/json, 200 times",
        wanted: &[],
        limit: Some(3.0),
        measure: |field| answers(field, "/containers/bench-api/json"),
    },
    Case {
        name: "images over a kept connection",
        unit: "ms",
        command: "GET /images/json, 200 times",
        wanted: &[],
        limit: Some(3.0),
        measure: |field| answers(field, "/images/json"),
    },
    Case {
        name: "calls over kept connections",
        unit: "calls/s",
        command: "GET /containers/json over 4 connections at once, 5 s",
        wanted: &[],
        limit: Some(10_000.0),
        measure: calls,
    },
    Case {
        name: "stats of 100 containers",
        unit: "% of a core",
        command: "processor time of the engine's processes while 100 clients stream `GET /containers/ID/stats`, 10 s",
        wanted: &[],
        limit: Some(2.0),
        measure: stats,
    },
    Case {
        name: "memory with 1,000 containers",
        unit: "MiB",
        command: "PSS of all engine processes that know 1,000 containers",
        wanted: &[],
        limit: Some(40.0),
        measure: memory_of_1000,
    },
];

/// A connection that is kept.
struct Kept(BufReader<UnixStream>);

impl Kept {
    fn open(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        Ok(self.0.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads an answer and drops it (RFC 9112, section 6: by its length, or in chunks).
    fn answer(&mut self) -> Result<()> {
        let (mut line, mut length) = (String::new(), None);
        self.0.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "the engine answered {line:?}");
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse::<u64>()?);
            }
        }
        let Some(length) = length else { return self.chunks() };
        std::io::copy(&mut (&mut self.0).take(length), &mut std::io::sink())?;
        Ok(())
    }

    fn chunks(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).context("no chunk's size")?;
            std::io::copy(&mut (&mut self.0).take(size + 2), &mut std::io::sink())?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn answers(field: &Field, path: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for who in ENGINES {
        measure::milliseconds(&field.command(who, &["create", "--name", "bench-api", "busybox", "true"]))?;
        let mut kept = Kept::open(&field.socket(who))?;
        let mut samples = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            kept.ask(path)?;
            kept.answer()?;
            samples.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        figures.push(Figure::new(who, samples)?);
        measure::milliseconds(&field.command(who, &["rm", "bench-api"]))?;
    }
    Ok(figures)
}

fn calls(field: &Field) -> Result<Vec<Figure>> {
    const TIME: Duration = Duration::from_secs(5);
    let mut figures = Vec::new();
    for who in ENGINES {
        let socket = field.socket(who);
        let one = || -> Result<u32> {
            let (mut kept, start, mut count) = (Kept::open(&socket)?, Instant::now(), 0);
            while start.elapsed() < TIME {
                kept.ask("/containers/json")?;
                kept.answer()?;
                count += 1;
            }
            Ok(count)
        };
        let counts: Vec<Result<u32>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let total = counts.into_iter().sum::<Result<u32>>()?;
        figures.push(Figure::new(who, vec![f64::from(total) / TIME.as_secs_f64()])?);
    }
    Ok(figures)
}

/// Processor time of processes so far, in seconds (proc_pid_stat(5), fields 14 and 15; 100 ticks a second).
fn processor_time(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit(')').next().context("a stat line")?.split_whitespace();
        ticks += fields.skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    }
    Ok(ticks / 100.0)
}

fn stats(field: &Field) -> Result<Vec<Figure>> {
    const TIME: Duration = Duration::from_secs(10);
    let names: Vec<String> = (0..100).map(|index| format!("bench-stats-{index}")).collect();
    for name in &names {
        let run = ["run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "1000"];
        measure::milliseconds(&field.command("ferry", &run))?;
    }
    let mut watchers = Vec::new();
    for name in &names {
        let mut kept = Kept::open(&field.socket("ferry"))?;
        kept.ask(&format!("/containers/{name}/stats"))?;
        let mut stream = kept.0.into_inner();
        watchers.push(thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink())));
    }
    thread::sleep(SETTLED);
    let [(who, mut pids), _] = engine_processes(field)?;
    pids.extend(measure::processes_with(&["ferry-shim"]));
    let before = processor_time(&pids)?;
    thread::sleep(TIME);
    let share = (processor_time(&pids)? - before) / TIME.as_secs_f64() * 100.0;
    let remove: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    measure::milliseconds(&field.command("ferry", &remove))?;
    for watcher in watchers {
        watcher.join().expect("no panic").ok();
    }
    Ok(vec![Figure::new(who, vec![share])?])
}

fn memory_of_1000(field: &Field) -> Result<Vec<Figure>> {
    for _ in 0..1000 {
        measure::milliseconds(&field.command("ferry", &["create", "busybox", "true"]))?;
    }
    thread::sleep(SETTLED);
    let [(who, pids), _] = engine_processes(field)?;
    let figure = Figure::new(who, vec![sum_pss(&pids)?])?;
    field.remove_all("ferry")?;
    Ok(vec![figure])
}
