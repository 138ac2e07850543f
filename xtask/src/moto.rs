//! PyPI's moto, which stands in the place of an S3 service: installed once into the cache folder.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::host;

/// What is installed. It is shown by the tests themselves that this version honours `If-Match` and `If-None-Match`.
const PACKAGE: &str = "moto[server]==5.2.5";

/// Installs it where it is not there yet. Without PyPI the tests that need it say so.
pub fn install() -> Result<()> {
    let folder = host::cache_directory()?.join("moto");
    if folder.join("bin/moto_server").is_file() {
        return Ok(());
    }
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let steps = || {
        host::run_command(Command::new("python3").args(["-m", "venv"]).arg(&unfinished))?;
        let pip = unfinished.join("bin/python");
        let mut install = Command::new(pip);
        install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE]);
        host::run_command(&mut install)
    };
    if let Err(error) = steps() {
        eprintln!("WARNING: {error:#}: the tests of registries over a bucket will not run");
        return Ok(());
    }
    Ok(fs::rename(&unfinished, &folder)?)
}
