//! The table of results: on the terminal, and in BENCHMARKS.md with versions, commands, and what falls short.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::cases::Case;
use super::measure::Figure;
use super::peers::Field;
use crate::host;

/// A measured case.
pub struct Row {
    /// What was measured.
    pub case: &'static Case,
    /// One figure per competitor.
    pub figures: Vec<Figure>,
}

impl Row {
    fn figure(&self, who: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.who == who)
    }

    /// Ferry's figure divided by the peer's.
    fn ratio(&self, peer: &str) -> Option<f64> {
        Some(self.figure("ferry")?.median / self.figure(peer)?.median)
    }

    /// Whether every wanted ratio is reached.
    fn verdict(&self) -> &'static str {
        let more_is_better = self.case.unit.ends_with("/s");
        let reached = |(peer, wanted): &(&str, f64)| {
            self.ratio(peer)
                .is_some_and(|ratio| if more_is_better { ratio >= *wanted } else { ratio <= *wanted })
        };
        let ferry = self.figure("ferry").map_or(f64::NAN, |figure| figure.median);
        let within = |limit: f64| if more_is_better { ferry >= limit } else { ferry <= limit };
        let nothing_wanted = self.case.wanted.is_empty() && self.case.limit.is_none();
        match (nothing_wanted, self.case.wanted.iter().all(reached) && self.case.limit.is_none_or(within)) {
            (true, _) => "",
            (false, true) => "reached",
            (false, false) => "**short**",
        }
    }

    fn line(&self) -> String {
        let figures: Vec<String> = self
            .figures
            .iter()
            .map(|f| {
                format!("{} {:.1} ({:.1} to {:.1}, n={})", f.who, f.median, f.range.0, f.range.1, f.count)
            })
            .collect();
        let ratios: Vec<String> = self
            .figures
            .iter()
            .filter(|figure| figure.who != "ferry")
            .filter_map(|figure| Some(format!("{} {}", show_ratio(self.ratio(figure.who)?), figure.who)))
            .collect();
        let wanted: Vec<String> = self
            .case
            .wanted
            .iter()
            .map(|(peer, ratio)| format!("{} {peer}", show_ratio(*ratio)))
            .chain(self.case.limit.map(|limit| format!("{limit} {}", self.case.unit)))
            .collect();
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            self.case.name,
            self.case.unit,
            figures.join("; "),
            ratios.join("; "),
            wanted.join("; "),
            self.verdict()
        )
    }
}

/// `1/23` for small ratios, `17x` for large ones; what takes nothing that can be measured is no part of anything.
fn show_ratio(ratio: f64) -> String {
    if ratio <= 0.0 {
        return "nothing beside".to_owned();
    }
    if ratio < 0.67 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.2}x") }
}

const HEAD: &str =
    "| what | unit | median (least to most, rounds) | ferry : peer | wanted | |\n|---|---|---|---|---|---|\n";

/// Prints the table.
pub fn print(rows: &[Row]) {
    print!("{HEAD}");
    for row in rows {
        println!("{}", row.line());
    }
}

/// Writes BENCHMARKS.md.
pub fn write(rows: &[Row], _field: &Field) -> Result<()> {
    let mut text = String::from(
        "# Benchmarks\n\nMade by `cargo xtask bench`: ferry and its peers from Debian's packages, on one machine, in one run, \
         rounds interleaved, with the same isolation, logging and durability, and with runtime folders in memory, as `/run` is. Figures vary from run to run; the ratios \
         are what counts. What falls short stays in the table.\n\n",
    );
    writeln!(text, "{}\n", machine()?)?;
    text.push_str(HEAD);
    for row in rows {
        writeln!(text, "{}", row.line())?;
    }
    text.push_str("\n## Commands\n\n");
    for row in rows {
        writeln!(text, "- {}: `{}`", row.case.name, row.case.command)?;
    }
    fs::write(host::workspace().join("BENCHMARKS.md"), text).context("cannot write BENCHMARKS.md")
}

fn machine() -> Result<String> {
    let first_line = |program: &str, argument: &str| {
        let text = host::output_of(Command::new(program).arg(argument)).unwrap_or_default();
        text.lines().next().unwrap_or("not installed").to_owned()
    };
    let release = first_line("uname", "-r");
    // What comes after is the name of somebody's build of it.
    let kernel = release.split('-').next().unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default().replace("MemTotal:", "");
    let versions: Vec<String> = ["/usr/sbin/dockerd", "podman", "runc", "crun"]
        .iter()
        .map(|program| first_line(program, "--version"))
        .collect();
    Ok(format!(
        "Machine: kernel {kernel}, {cores} cores, {} memory. Peers: {}.",
        memory.trim(),
        versions.join("; ")
    ))
}
