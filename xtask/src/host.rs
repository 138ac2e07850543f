//! The machine underneath: running commands with clear failures, the cache folder outside the clone,
//! and Debian packages. Never decides what a chore does.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Runs a command with inherited output; an exit code other than 0 is an error naming the command.
pub fn run_command(command: &mut Command) -> Result<()> {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let shown = show(command);
    eprintln!("+ {shown} (after {} s)", BEGUN.elapsed().as_secs());
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command and gives its standard output; standard error is inherited.
pub fn output_of(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    if shown.len() > 300 {
        shown.truncate(shown.floor_char_boundary(300));
        shown.push('…');
    }
    shown
}

/// The workspace's root folder, as cargo names it to the program it runs. Not as it was at compile time: clones
/// share one target folder, and the program in it may come from a clone that is gone.
pub fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where downloads, bootstrapped trees and image archives are kept between runs and clones:
/// `$FERRY_CACHE_DIR`, else `$XDG_CACHE_HOME/ferry`, else `~/.cache/ferry`.
pub fn cache_directory() -> Result<PathBuf> {
    let directory = match (env::var_os("FERRY_CACHE_DIR"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
    {
        (Some(directory), _, _) => PathBuf::from(directory),
        (None, Some(cache), _) => PathBuf::from(cache).join("ferry"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/ferry"),
        (None, None, None) => bail!("none of FERRY_CACHE_DIR, XDG_CACHE_HOME and HOME is set"),
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Cargo's target folder of this build, `$CARGO_TARGET_DIR` or `target` in the workspace.
pub fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Whether this process may install packages, mount and make namespaces.
pub fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Installs those of the named Debian packages that are missing, without recommended extras.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("missing Debian packages: {}; install them, or run this as root", missing.join(" "));
    }
    let apt = |arguments: &[&str]| {
        run_command(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                // Installing a package must not start its service: the tests start what they need.
                .env("RUNLEVEL", "1")
                .args(arguments)
                .stdout(Stdio::null()),
        )
    };
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"installed"))
}

/// The first Debian archive that the machine's own apt uses, for bootstrapping trees.
pub fn debian_mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let is_entry = line.starts_with("deb ") || line.starts_with("URIs:");
            let archive = line.split_whitespace().find(|word| word.contains("://"));
            if let Some(archive) =
                archive.filter(|a| is_entry && a.trim_end_matches('/').ends_with("/debian"))
            {
                return Ok(archive.to_owned());
            }
        }
    }
    bail!("no Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d")
}
