//! `cargo xtask test`: everything the suite needs, then the suite: packages, base images, the static binary,
//! unit and contract tests, and the black-box tests as root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{compose_go, host, images, moto};

/// What the tests call besides ferry itself.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "debootstrap",
    "skopeo",
    "umoci",
    "nftables",
    "iproute2",
    "iptables",
    "curl",
    "socat",
    "iperf3",
    "bind9-dnsutils",
    "strace",
    "xz-utils",
    "zstd",
    "docker-registry",
    "apache2-utils",
    "podman",
    "containerd",
    "docker.io",
    "runc",
    "chromium",
    "passt",
    "python3-venv",
    "uidmap",
];

/// Installs packages and makes the base images.
pub fn set_up() -> Result<()> {
    host::install_packages(PACKAGES)?;
    images::make(&[])?;
    compose_go::make()?;
    moto::install()?;
    Ok(())
}

/// Sets up and runs the suite; `filters` go to the test programs.
///
/// The binary under test is the release build; the test programs are development builds, which take a third
/// of the time to compile and check arithmetic for overflow.
pub fn run(filters: &[String]) -> Result<()> {
    // Making images waits for downloads and the disk, compiling for the processor: they go on side by side.
    let images = std::thread::spawn(set_up);
    let binary = build_binary()?;
    images.join().map_err(|_| anyhow::anyhow!("making the images panicked"))??;
    // The last binary that passed: engines are upgraded from it to this one.
    let earlier = host::cache_directory()?.join("ferry-earlier");
    let test = |selection: &[&str]| {
        let mut command = cargo(&["test", "--no-fail-fast"]);
        command.env("FERRY_BINARY", &binary).env("FERRY_EARLIER_BINARY", &earlier);
        failed_targets(command.args(selection).arg("--").args(filters))
    };
    let failed = test(&["--workspace", "--lib", "--bins", "--tests"])?;
    once_more(&failed, |target| test(&target.split_whitespace().collect::<Vec<_>>()))?;
    if filters.is_empty() {
        let next = earlier.with_extension("new");
        fs::copy(&binary, &next)
            .and_then(|_| fs::rename(&next, &earlier))
            .context("cannot keep the binary")?;
    }
    Ok(())
}

/// Most programs of tests that get a second chance: more are no accident.
const SECOND_CHANCES: usize = 2;

/// What cargo wrote before its end is read by then, whoever else holds its output open.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Runs failed programs of tests a second time, and says loudly where that one passes: a machine that does other things
/// meanwhile can make any test fail once, and each such test is one to be mended.
fn once_more(failed: &[String], test: impl Fn(&str) -> Result<Vec<String>>) -> Result<()> {
    if failed.len() > SECOND_CHANCES {
        bail!("tests failed: {}", failed.join(", "));
    }
    for target in failed {
        eprintln!("UNSTEADY? `{target}` failed; it runs once more");
        if !test(target)?.is_empty() {
            bail!("tests failed twice: {target}");
        }
        eprintln!(
            "UNSTEADY: `{target}` failed the first time and passed the second: mend what the first run shows"
        );
    }
    Ok(())
}

/// Runs `cargo test` and gives the selections of the programs that failed, as cargo lists them at the end.
fn failed_targets(command: &mut Command) -> Result<Vec<String>> {
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot run cargo")?;
    let errors = child.stderr.take().context("cargo has no standard error")?;
    let (sender, lines) = mpsc::channel();
    let forward = move || {
        for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            eprintln!("{line}");
            // Nobody listens once cargo has ended and the rest is of some process it left.
            let _ = sender.send(failed_target(&line));
        }
    };
    std::thread::spawn(forward);
    let status = child.wait().context("wait for cargo")?;
    let mut failed = Vec::new();
    while let Ok(target) = lines.recv_timeout(LAST_LINES) {
        failed.extend(target);
    }
    match status.success() {
        true => Ok(Vec::new()),
        false if failed.is_empty() => bail!("cargo test ended with {status}"),
        false => Ok(failed),
    }
}

/// `-p PACKAGE --test NAME` of a line of cargo's list of what failed.
fn failed_target(line: &str) -> Option<String> {
    let target = line.strip_prefix("    `")?.strip_suffix('`')?;
    target.starts_with("-p ").then(|| target.to_owned())
}

/// Builds the release binary, checks that it is static, and gives its path.
pub fn build_binary() -> Result<PathBuf> {
    host::run_command(&mut cargo(&["build", "--release", "--package", "ferry"]))?;
    let binary = release_directory()?.join("ferry");
    check_static(&binary)?;
    Ok(binary)
}

/// A cargo command run in the workspace, without what cargo told this program of its own package: build scripts of
/// dependencies watch those variables, and would build anew all that a cargo called by hand has built.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(host::workspace());
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo puts release programs: the target is named in `.cargo/config.toml`, so its triple is part of it.
pub fn release_directory() -> Result<PathBuf> {
    let version = host::output_of(Command::new("rustc").arg("-vV"))?;
    let triple =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host::target_directory().join(triple).join("release"))
}

/// Refuses an ELF file that asks for an interpreter, that is, a dynamic linker.
fn check_static(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    match has_interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => bail!("{} is not static: it names a program interpreter", binary.display()),
        None => bail!("{} is no 64-bit little-endian ELF file", binary.display()),
    }
}

/// Whether a 64-bit ELF image has a PT_INTERP program header (System V ABI, chapter 5).
fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let start = usize::try_from(long(0x20)?).ok()?;
    let (size, count) = (usize::from(half(0x36)?), usize::from(half(0x38)?));
    for index in 0..count {
        if word(start + index * size)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::{failed_target, has_interpreter};

    #[test]
    fn failed_programs_are_named_by_cargo() {
        for (line, target) in [
            ("    `-p ferry-tests --test blackbox`", Some("-p ferry-tests --test blackbox")),
            ("    `-p ferry-net --lib`", Some("-p ferry-net --lib")),
            ("error: 1 target failed:", None),
            ("    `cargo test`", None),
        ] {
            assert_eq!(failed_target(line).as_deref(), target, "{line}");
        }
    }

    #[test]
    fn interpreter_is_found_in_program_headers() {
        let mut elf = vec![0; 0x40 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x20] = 0x40;
        elf[0x36] = 56;
        elf[0x38] = 2;
        assert_eq!(has_interpreter(&elf), Some(false));
        elf[0x40 + 56] = 3;
        assert_eq!(has_interpreter(&elf), Some(true));
        assert_eq!(has_interpreter(b"#!/bin/sh"), None);
    }
}
