//! `cargo xtask bench`: ferry beside Docker, podman, runc and crun from Debian's packages, on the same machine, with
//! the same isolation, in one run; writes BENCHMARKS.md.
//!
//! - [`peers`]: starts each engine with private roots and hands out its command line.
//! - [`cases`]: what is measured, and the ratio that is wanted.
//! - [`measure`]: timing and memory.
//! - [`report`]: the table in BENCHMARKS.md.

mod cases;
mod measure;
mod peers;
mod report;

use anyhow::Result;

use crate::{host, images, test};

/// Packages of the peers and tools that a run compares with.
const PACKAGES: &[&str] = &[
    "docker.io",
    "podman",
    "runc",
    "crun",
    "buildah",
    "skopeo",
    "docker-registry",
    "docker-compose",
    "iperf3",
    "dnsperf",
    "uidmap",
    "netavark",
];

/// Runs the cases whose names hold one of the filters (all where there is none) and writes the report.
pub fn run(filters: &[String]) -> Result<()> {
    host::install_packages(PACKAGES)?;
    images::make(&["busybox".into(), "debian".into()])?;
    // A binary that is there already can be measured, for instance an older one.
    let binary = match std::env::var_os("FERRY_BINARY") {
        Some(binary) => binary.into(),
        None => test::build_binary()?,
    };
    let field = peers::Field::start(&binary)?;
    let mut rows = Vec::new();
    for case in cases::all() {
        if filters.is_empty() || filters.iter().any(|filter| case.name.contains(filter.as_str())) {
            eprintln!("measuring: {}", case.name);
            match (case.measure)(&field) {
                Ok(figures) => rows.push(report::Row { case, figures }),
                Err(error) => eprintln!("could not measure {}: {error:#}", case.name),
            }
            // After each case, so that a run which is broken off has not been for nothing.
            if filters.is_empty() {
                report::write(&rows, &field)?;
            }
        }
    }
    report::print(&rows);
    Ok(())
}
