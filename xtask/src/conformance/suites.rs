//! The clients, in their versions, and how each is brought here and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::engine::Engine;
use super::report::{self, Tested};
use crate::host;

/// A client and its tests.
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the report says of it.
    pub about: &'static str,
    /// Brings what it needs into the cache folder, where that is not there yet.
    pub install: fn(&Path) -> Result<()>,
    /// Runs it.
    pub run: fn(&Path, &Engine) -> Result<Vec<Tested>>,
}

/// All of them.
pub fn all() -> Vec<Suite> {
    vec![
        Suite {
            name: "docker-py",
            about: "Docker's Python SDK 7.1.0 with the integration tests of 7.0.0 (the last whose source archive has \
                them), the client asking for the newest version of the API.",
            install: install_docker_py,
            run: run_docker_py,
        },
        Suite {
            name: "dockerode",
            about: "npm's dockerode 4 and testcontainers 11, driven by `tests/conformance/node/suite.mjs`.",
            install: install_node,
            run: |cache, engine| lines(engine.client("node").arg(cache.join("suite.mjs"))),
        },
        super::distribution::SUITE,
        Suite {
            name: "docker-compose",
            about: "docker-compose 1.29 as Debian packages it, driven by `tests/conformance/python/compose.py`.",
            install: |_| host::install_packages(&["docker-compose"]),
            run: |cache, engine| lines(python_of_the_host(engine, "compose.py").arg(cache)),
        },
    ]
}

/// A folder or file of `tests/conformance`.
fn source(name: &str) -> PathBuf {
    host::workspace().join("tests/conformance").join(name)
}

/// Runs a program that prints results; how it ends says nothing that they do not.
fn lines(command: &mut Command) -> Result<Vec<Tested>> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let results = report::read_lines(&text);
    if results.is_empty() {
        bail!("no results ({}):\n{text}\n{errors}", output.status);
    }
    Ok(results)
}

/// A virtual environment with packages.
fn python(cache: &Path, packages: &[&str]) -> Result<()> {
    let marker = cache.join("installed");
    let wanted = packages.join(" ");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let environment = cache.join("venv");
    host::run_command(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let pip = environment.join("bin/pip");
    host::run_command(
        Command::new(pip).args(["install", "-q", "--disable-pip-version-check"]).args(packages),
    )?;
    Ok(fs::write(marker, wanted)?)
}

fn install_docker_py(cache: &Path) -> Result<()> {
    python(
        cache,
        &[
            "docker==7.1.0",
            "pytest==8.4.2",
            "pytest-timeout==2.4.0",
            "paramiko==4.0.0",
            "websocket-client==1.8.0",
        ],
    )?;
    if cache.join("docker-7.0.0/tests/integration").is_dir() {
        return Ok(());
    }
    let mut download = Command::new(cache.join("venv/bin/pip"));
    download.args(["download", "-q", "--no-deps", "--no-binary", ":all:", "docker==7.0.0", "-d"]);
    host::run_command(download.arg(cache))?;
    host::run_command(
        Command::new("tar").arg("-C").arg(cache).arg("-xf").arg(cache.join("docker-7.0.0.tar.gz")),
    )?;
    // The library of that archive would hide the installed one.
    Ok(fs::remove_dir_all(cache.join("docker-7.0.0/docker"))?)
}

fn run_docker_py(cache: &Path, engine: &Engine) -> Result<Vec<Tested>> {
    let mut command = engine.client(cache.join("venv/bin/python"));
    command.args(["-m", "pytest", "-q", "-p", "ferry_report", "--timeout", "120", "tests/integration"]);
    command.env("PYTHONPATH", source("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    lines(command.current_dir(cache.join("docker-7.0.0")))
}

fn install_node(cache: &Path) -> Result<()> {
    for name in ["package.json", "suite.mjs"] {
        fs::copy(source("node").join(name), cache.join(name))?;
    }
    if cache.join("node_modules/testcontainers").is_dir() {
        return Ok(());
    }
    host::run_command(
        Command::new("npm").args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(cache),
    )
}

/// A script of ours under the host's Python.
fn python_of_the_host(engine: &Engine, script: &str) -> Command {
    let mut command = engine.client("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(source("python").join(script));
    command
}
