//! Docker's own Compose, written in Go: built once into the cache folder, from the module under
//! `tests/compose-go` that pins its version and the sums of all it is made of.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host;

/// The program's package.
const PACKAGE: &str = "github.com/docker/compose/v2/cmd";

/// Builds it where it is not there yet. Without a Go compiler the tests that need it say so.
pub fn make() -> Result<()> {
    let module = host::workspace().join("tests/compose-go");
    let version = pinned_version(&std::fs::read_to_string(module.join("go.mod"))?)?;
    let program = host::cache_directory()?.join(format!("docker-compose-{version}"));
    if program.is_file() {
        return Ok(());
    }
    let Some(go) = compiler() else {
        eprintln!("WARNING: no Go compiler here: the tests against Docker Compose will not run");
        return Ok(());
    };
    let unfinished = program.with_extension("unfinished");
    let mut build = Command::new(go);
    build.args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&unfinished).arg(PACKAGE);
    if let Err(error) = host::run_command(build.current_dir(module).env("CGO_ENABLED", "0")) {
        eprintln!("WARNING: {error:#}: the tests against Docker Compose will not run");
        return Ok(());
    }
    std::fs::rename(&unfinished, &program)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), program.display()))
}

fn pinned_version(text: &str) -> Result<String> {
    let module = PACKAGE.trim_end_matches("/cmd");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("require ").unwrap_or(line.trim()).strip_prefix(module));
    let version = line.and_then(|rest| rest.split_whitespace().next());
    version.map(str::to_owned).with_context(|| format!("go.mod does not require {module}"))
}

/// The Go compiler of this machine.
pub fn compiler() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/go/bin".into(), "/usr/lib/go/bin".into()]);
    folders.map(|folder| folder.join("go")).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::pinned_version;

    #[test]
    fn the_version_is_read() {
        let text =
            "module m\n\nrequire (\n\tgithub.com/a/b v1.0.0\n\tgithub.com/docker/compose/v2 v2.40.3\n)\n";
        assert_eq!(pinned_version(text).unwrap(), "v2.40.3");
        assert_eq!(pinned_version("require github.com/docker/compose/v2 v2.1.0").unwrap(), "v2.1.0");
        assert!(pinned_version("require github.com/docker/compose/v3 v3.0.0").is_err());
    }
}
