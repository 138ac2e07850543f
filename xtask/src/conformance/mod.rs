//! `cargo xtask conformance [SUITE…]`: the API as its real clients see it.
//!
//! Each suite is somebody else's client, in the version named in [`suites`], kept in the cache folder. It runs against
//! an engine of its own that has the factory's images and, in the place of Docker Hub, a registry on loopback that has
//! them too. What came of it is written into CONFORMANCE.md: passed, failed and why, not applicable and why.

mod distribution;
mod engine;
mod report;
mod suites;
#[cfg(test)]
mod table;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::host;
use engine::Engine;
use report::Outcome;

/// Runs the named suites, or all, and writes the report.
///
/// `FERRY_BINARY` names the program where it is not to be the release build.
pub fn run(names: &[String]) -> Result<()> {
    let all = suites::all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|suite| suite.name != name.as_str())) {
        let known: Vec<&str> = all.iter().map(|suite| suite.name).collect();
        bail!("no suite `{unknown}`; there are: {}", known.join(", "));
    }
    let binary = match std::env::var_os("FERRY_BINARY") {
        Some(binary) => binary.into(),
        None => crate::test::build_binary()?,
    };
    let mut report = report::Report::read()?;
    let mut failed = 0;
    for suite in all.iter().filter(|suite| names.is_empty() || names.iter().any(|name| name == suite.name)) {
        let cache = host::cache_directory()?.join("conformance").join(suite.name);
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        (suite.install)(&cache).with_context(|| format!("cannot install what {} needs", suite.name))?;
        let engine = Engine::start(&binary)?;
        let results = (suite.run)(&cache, &engine).with_context(|| format!("cannot run {}", suite.name))?;
        engine.stop()?;
        failed += results.iter().filter(|result| matches!(result.outcome, Outcome::Failed(_))).count();
        println!("{}: {}", suite.name, report::summary(&results));
        report.put(suite, &results);
        report.write()?;
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} tests failed; CONFORMANCE.md names them"),
    }
}
