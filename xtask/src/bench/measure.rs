//! Timing of whole commands and memory of whole process trees.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// docker and podman go on working for some 100 ms after their commands have returned.
const REST: Duration = Duration::from_millis(300);

/// One competitor's figure in a case; the unit is the case's.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Who: `ferry`, `docker`, …
    pub who: &'static str,
    /// Median.
    pub median: f64,
    /// Smallest and largest.
    pub range: (f64, f64),
    /// How many times measured.
    pub count: usize,
}

impl Figure {
    /// Sums up samples.
    pub fn new(who: &'static str, mut samples: Vec<f64>) -> Result<Self> {
        samples.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (samples.first(), samples.last()) else {
            bail!("{who}: no samples")
        };
        Ok(Self { who, median: samples[samples.len() / 2], range: (least, most), count: samples.len() })
    }
}

/// Wall-clock milliseconds of a command run to its end, output to /dev/null; failing is an error.
pub fn milliseconds(command: &[String]) -> Result<f64> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let start = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            command.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(elapsed)
}

/// Standard output of a command; failing is an error.
pub fn output(command: &[String]) -> Result<String> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    crate::host::output_of(Command::new(program).args(arguments).stdin(Stdio::null()))
}

/// Times each competitor's command in turn, `rounds` times over, after one warm-up; interleaved, so that a
/// machine's slow moment hits all alike, and each after a rest, so that nobody pays for what another's command
/// left to be cleaned up in the background.
pub fn interleaved(rounds: usize, competitors: &[(&'static str, Vec<String>)]) -> Result<Vec<Figure>> {
    let mut samples = vec![Vec::new(); competitors.len()];
    for (_, command) in competitors {
        milliseconds(command)?;
    }
    for _ in 0..rounds {
        for (index, (_, command)) in competitors.iter().enumerate() {
            thread::sleep(REST);
            samples[index].push(milliseconds(command)?);
        }
    }
    competitors.iter().zip(samples).map(|((who, _), samples)| Figure::new(who, samples)).collect()
}

/// How long the machine's processors are busy, summed up, from the start of `work` until all that it began is done,
/// beyond what they are busy with otherwise. An idle processor's time is counted exactly (kernel documentation,
/// filesystems/proc, `/proc/stat`), a busy one's only by ticks.
pub fn busy_milliseconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    const LOOK: Duration = Duration::from_millis(100);
    let idle = busy_while_asleep(LOOK * 5)?;
    let share = idle.busy / idle.elapsed;
    let mut all = busy_until(work)?;
    loop {
        let more = busy_while_asleep(LOOK)?;
        if more.busy / more.elapsed <= share * 1.5 + 0.01 {
            return Ok(all.busy - share * all.elapsed);
        }
        all.busy += more.busy;
        all.elapsed += more.elapsed;
    }
}

/// Milliseconds of the processors and of the clock.
struct Busy {
    busy: f64,
    elapsed: f64,
}

fn busy_until(work: impl FnOnce() -> Result<()>) -> Result<Busy> {
    let (start, before) = (Instant::now(), idle_milliseconds()?);
    work()?;
    let idle = idle_milliseconds()? - before;
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    let processors = f64::from(u32::try_from(thread::available_parallelism()?.get())?);
    Ok(Busy { busy: elapsed * processors - idle, elapsed })
}

fn busy_while_asleep(time: Duration) -> Result<Busy> {
    busy_until(|| {
        thread::sleep(time);
        Ok(())
    })
}

/// Idle time of all processors since the machine's start, waiting for a disk included.
fn idle_milliseconds() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .context("an empty /proc/stat")?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let [_, _, _, idle, waiting, ..] = fields[..] else { bail!("/proc/stat has no idle time") };
    Ok((idle + waiting) * 1000.0 / TICKS_PER_SECOND)
}

/// Proportional set size of a process in KiB (kernel documentation, filesystems/proc, `smaps_rollup`).
pub fn pss_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss line")?;
    let number = line.trim().trim_end_matches("kB").trim();
    number.parse().with_context(|| format!("{path}: `{number}` is no number"))
}

/// Largest resident set size in MiB that the processes reach while `work` goes on, summed up (kernel
/// documentation, filesystems/proc: `clear_refs`, and `VmHWM` in `status`).
pub fn peak_mib(pids: &[u32], work: impl FnOnce() -> Result<()>) -> Result<f64> {
    for pid in pids {
        let path = format!("/proc/{pid}/clear_refs");
        fs::write(&path, "5").with_context(|| format!("cannot write {path}"))?;
    }
    work()?;
    let mut total = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM line")?;
        total += line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0;
    }
    Ok(total)
}

/// Processes whose command line holds all of the texts.
pub fn processes_with(texts: &[&str]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            texts.iter().all(|text| line.contains(text))
        })
        .collect()
}
