//! The suite of the OCI distribution specification, built from the module that pins it, against the registry.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine::{Engine, free_port};
use super::report::{Outcome, Tested};
use super::suites::Suite;
use crate::{compose_go, host};

const PACKAGE: &str = "github.com/opencontainers/distribution-spec/conformance";
const PATIENCE: Duration = Duration::from_secs(60);

/// The suite.
pub const SUITE: Suite = Suite {
    name: "distribution-spec",
    about: "The OCI distribution specification's own suite, version 1.1, in its revision of 31 August 2026, against \
        `ferry registry serve --sparse`.",
    install,
    run,
};

fn install(cache: &Path) -> Result<()> {
    let module = host::workspace().join("tests/conformance/distribution");
    let wanted = fs::read_to_string(module.join("go.mod"))?;
    let marker = cache.join("go.mod");
    if fs::read_to_string(&marker).is_ok_and(|built| built == wanted) && cache.join("suite").is_file() {
        return Ok(());
    }
    let go = compose_go::compiler().context("there is no Go compiler here")?;
    let mut build = Command::new(go);
    build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(cache.join("suite")).arg(PACKAGE);
    host::run_command(build.current_dir(module).env("CGO_ENABLED", "0"))?;
    Ok(fs::write(marker, wanted)?)
}

fn run(cache: &Path, engine: &Engine) -> Result<Vec<Tested>> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut registry = Command::new(engine.binary())
        .args(["registry", "serve", "--quiet", "--sparse", "--listen", &address, "--root"])
        .arg(engine.root.join("distribution"))
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the registry")?;
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if begun.elapsed() > PATIENCE {
            bail!("the registry does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = Command::new(cache.join("suite"))
        .env("OCI_REGISTRY", &address)
        .envs([("OCI_TLS", "disabled"), ("OCI_VERSION", "1.1")])
        .env("OCI_RESULTS_DIR", engine.root.join("distribution-results"))
        .current_dir(cache)
        .stdin(Stdio::null())
        .output();
    registry.kill()?;
    registry.wait()?;
    let output = output.context("cannot run the suite")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let results = read(&text);
    match results.is_empty() {
        true => bail!("no results ({}):\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
        false => Ok(results),
    }
}

/// Reads lines `OCI Conformance Test/PART/NAME: Pass`. A group counts as one more test, which fails with its parts.
fn read(text: &str) -> Vec<Tested> {
    let tested = text.lines().filter_map(|line| {
        let (name, status) = line.trim().strip_prefix("OCI Conformance Test/")?.rsplit_once(": ")?;
        let outcome = match status {
            "Pass" => Outcome::Passed,
            "Skip" | "Disabled" => Outcome::NotApplicable("the suite leaves it out".to_owned()),
            other => Outcome::Failed(other.to_owned()),
        };
        Some(Tested { name: name.to_owned(), outcome })
    });
    tested.collect()
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::conformance::report::summary;

    #[test]
    fn lines_are_results() {
        let text = "Test results\nOCI Conformance Test: FAIL\n  OCI Conformance Test/ping: Pass\n\
            \x20   OCI Conformance Test/blobs/range 500-0: Skip\n  OCI Conformance Test/empty: FAIL\n";
        assert_eq!(summary(&read(text)), "1 passed, 1 failed, 1 not applicable");
    }
}
