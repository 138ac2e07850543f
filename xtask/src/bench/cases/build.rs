//! Builds: from the cache, after a change, and cold.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::Field;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cached rebuild, 1 file",
        unit: "ms",
        command: "build -q DIR, 4 steps, one file in the context, all cached",
        wanted: &[("docker classic", 1.0 / 10.0), ("docker BuildKit", 1.0 / 10.0)],
        limit: None,
        measure: cached_small,
    },
    Case {
        name: "cached rebuild, COPY of 10,000 files",
        unit: "ms",
        command: "build -q DIR, `COPY . /src` of 10,000 files, all cached",
        wanted: &[("docker BuildKit", 1.0 / 10.0)],
        limit: None,
        measure: cached_large,
    },
    Case {
        name: "peak memory of a build",
        unit: "MiB",
        command: "most resident memory of the engine's processes during build -q --no-cache DIR, `COPY . /src` of 10,000 files",
        wanted: &[],
        limit: Some(100.0),
        measure: peak_memory,
    },
    Case {
        name: "rebuild, one file of 1 GB changed",
        unit: "ms",
        command: "build -q DIR after one of 1,000 files of 1 MB was changed",
        wanted: &[("docker BuildKit", 1.0 / 5.0)],
        limit: None,
        measure: one_changed,
    },
    Case {
        name: "cold build of 6 steps",
        unit: "ms",
        command: "build -q --no-cache DIR, FROM, COPY, 3 RUN, CMD",
        wanted: &[("docker BuildKit", 1.0 / 3.0)],
        limit: None,
        measure: cold,
    },
    Case {
        name: "two independent stages of 5 s",
        unit: "ms",
        command: "build -q --no-cache DIR, two stages with RUN sleep 5, copied together",
        wanted: &[],
        limit: Some(5_500.0),
        measure: two_stages,
    },
];

const SMALL: &str =
    "FROM busybox\nCOPY file /file\nRUN cat /file > /copy\nRUN echo done > /done\nCMD [\"true\"]\n";
const LARGE: &str = "FROM busybox\nCOPY . /src\nCMD [\"true\"]\n";
const COLD: &str = "FROM busybox\nCOPY file /file\nRUN cat /file > /copy\nRUN echo one > /one\n\
    RUN echo two > /two\nCMD [\"true\"]\n";
const STAGES: &str = "FROM busybox AS one\nRUN sleep 5; echo one > /one\nFROM busybox AS two\n\
    RUN sleep 5; echo two > /two\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n";

fn context(field: &Field, name: &str, dockerfile: &str) -> Result<PathBuf> {
    let folder = field.root.join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("Dockerfile"), dockerfile)?;
    fs::write(folder.join("file"), "hello\n")?;
    Ok(folder)
}

/// The same build by every builder; each has built it once before the first measured round.
fn builders(field: &Field, folder: &Path, flags: &[&str]) -> Vec<(&'static str, Vec<String>)> {
    let folder = folder.display().to_string();
    let words: Vec<&str> = flags.iter().copied().chain(["-t", "bench-build", &folder]).collect();
    let buildah: Vec<&str> = ["--layers"].into_iter().chain(words.iter().copied()).collect();
    vec![
        ("ferry", field.build("ferry", &words)),
        ("docker classic", field.build("docker", &words)),
        ("docker BuildKit", field.build("docker BuildKit", &words)),
        ("buildah", field.build("buildah", &buildah)),
    ]
}

fn cached_small(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "small", SMALL)?;
    measure::interleaved(15, &builders(field, &folder, &["-q"]))
}

fn cached_large(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "large", LARGE)?;
    for index in 0..10_000 {
        let part = folder.join(format!("part-{}", index / 100));
        fs::create_dir_all(&part)?;
        fs::write(part.join(format!("file-{index}")), format!("{index}\n"))?;
    }
    measure::interleaved(9, &builders(field, &folder, &["-q"]))
}

fn one_changed(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "gigabyte-context", LARGE)?;
    let make = format!(
        "cd {} && for i in $(seq 1000); do head -c 1000000 /dev/urandom > data-$i; done",
        folder.display()
    );
    measure::milliseconds(&field.shell(&make))?;
    // buildah is not asked: nothing is wanted in relation to it here, and it takes its time.
    let builders = &builders(field, &folder, &["-q"])[..3];
    let mut samples = vec![Vec::new(); builders.len()];
    for (_, command) in builders {
        measure::milliseconds(command)?;
    }
    for round in 0..3 {
        for (index, (_, command)) in builders.iter().enumerate() {
            fs::write(folder.join("data-500"), format!("round {round} of {index}"))?;
            samples[index].push(measure::milliseconds(command)?);
        }
    }
    fs::remove_dir_all(&folder)?;
    builders.iter().zip(samples).map(|((who, _), samples)| Figure::new(who, samples)).collect()
}

fn peak_memory(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "large", LARGE)?;
    let words = ["build", "-q", "--no-cache", &folder.display().to_string()].map(str::to_owned);
    let mut figures = Vec::new();
    for (who, pids) in super::memory::engine_processes(field)? {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = field.command(who, &words);
        figures.push(Figure::new(
            who,
            vec![measure::peak_mib(&pids, || measure::milliseconds(&command).map(drop))?],
        )?);
    }
    Ok(figures)
}

fn cold(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "cold", COLD)?;
    measure::interleaved(7, &builders(field, &folder, &["-q", "--no-cache"]))
}

fn two_stages(field: &Field) -> Result<Vec<Figure>> {
    let folder = context(field, "stages", STAGES)?;
    measure::interleaved(1, &builders(field, &folder, &["-q", "--no-cache"])[..3])
}
