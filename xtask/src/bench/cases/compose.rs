//! Compose: an app of six services up, unchanged, and down; against docker-compose 1.29.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::{ENGINES, Field};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "compose up, 6 services",
        unit: "ms",
        command: "compose up -d, a depends_on chain, a network and volumes",
        wanted: &[("docker", 1.0 / 10.0)],
        limit: None,
        measure: up,
    },
    Case {
        name: "compose up, nothing to do",
        unit: "ms",
        command: "compose up -d again",
        wanted: &[("docker", 1.0 / 15.0)],
        limit: Some(50.0),
        measure: nothing_to_do,
    },
    Case {
        name: "compose down, 6 services",
        unit: "ms",
        command: "compose down",
        wanted: &[("docker", 1.0 / 10.0)],
        limit: None,
        measure: down,
    },
    Case {
        name: "compose up, 50 services, nothing to do",
        unit: "ms",
        command: "compose up -d again, 50 services",
        wanted: &[],
        limit: Some(100.0),
        measure: fifty,
    },
    Case {
        name: "compose config, 1,000 services",
        unit: "ms",
        command: "compose config -q of a file with 1,000 services",
        wanted: &[],
        limit: Some(100.0),
        measure: thousand,
    },
];

/// A file of `count` services, each depending on the one before, in a folder of its own.
fn project(field: &Field, name: &str, count: usize) -> Result<String> {
    let folder = field.root.join(name);
    fs::create_dir_all(&folder)?;
    let mut text = String::from("version: '3.7'\nservices:\n");
    for index in 0..count {
        write!(
            text,
            "  s{index}:\n    image: busybox\n    command: ['sh', '-c', 'trap exit TERM; sleep 1000 & wait']\n    \
             volumes: ['v{index}:/data']\n    networks: [net]\n"
        )?;
        if index > 0 {
            writeln!(text, "    depends_on: [s{}]", index - 1)?;
        }
    }
    text.push_str("networks:\n  net: {}\nvolumes:\n");
    for index in 0..count {
        writeln!(text, "  v{index}: {{}}")?;
    }
    let file = folder.join("docker-compose.yml");
    fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// Times one of `up`, `up` again, and `down`, over a few rounds of all three.
fn cycle(field: &Field, wanted: usize) -> Result<Vec<Figure>> {
    let file = project(field, "bench-six", 6)?;
    let steps: [&[&str]; 3] = [&["up", "-d"], &["up", "-d"], &["down"]];
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        for (who, samples) in ENGINES.into_iter().zip(&mut samples) {
            for (index, step) in steps.iter().enumerate() {
                let words: Vec<&str> = ["-f", &file].into_iter().chain(step.iter().copied()).collect();
                let time = measure::milliseconds(&field.compose(who, &words))?;
                if index == wanted {
                    samples.push(time);
                }
            }
        }
    }
    ENGINES.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}

fn up(field: &Field) -> Result<Vec<Figure>> {
    cycle(field, 0)
}

fn nothing_to_do(field: &Field) -> Result<Vec<Figure>> {
    cycle(field, 1)
}

fn down(field: &Field) -> Result<Vec<Figure>> {
    cycle(field, 2)
}

fn fifty(field: &Field) -> Result<Vec<Figure>> {
    let file = project(field, "bench-fifty", 50)?;
    let up = field.compose("ferry", &["-f", &file, "up", "-d"]);
    let figures = measure::interleaved(7, &[("ferry", up)]);
    measure::milliseconds(&field.compose("ferry", &["-f", &file, "down", "--volumes"]))?;
    figures
}

fn thousand(field: &Field) -> Result<Vec<Figure>> {
    let file = project(field, "bench-thousand", 1000)?;
    measure::interleaved(7, &[("ferry", field.compose("ferry", &["-f", &file, "config", "-q"]))])
}
