//! Where the image factory (`cargo xtask images`) keeps its archives.

use std::env;
use std::path::PathBuf;

/// The archive of a factory image.
///
/// # Panics
/// Where the factory has not made it yet.
#[must_use]
pub fn archive(name: &str) -> PathBuf {
    let archive = cache().join("images").join(format!("{name}.tar"));
    assert!(archive.exists(), "{} is missing; run: cargo xtask images {name}", archive.display());
    archive
}

/// Docker's own Compose, where `cargo xtask test` has built it; none on a machine without a Go compiler.
#[must_use]
pub fn docker_compose() -> Option<PathBuf> {
    let module = include_str!("../compose-go/go.mod");
    let required = module.lines().find_map(|line| {
        line.trim().trim_start_matches("require ").strip_prefix("github.com/docker/compose/v2 ")
    });
    let version = required.and_then(|rest| rest.split_whitespace().next())?;
    Some(cache().join(format!("docker-compose-{version}"))).filter(|program| program.is_file())
}

/// Where what the tests need is kept.
///
/// # Panics
/// Where no folder is named.
#[must_use]
pub fn cache() -> PathBuf {
    env::var_os("FERRY_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| env::var_os("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("ferry")))
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ferry")))
        .expect("FERRY_CACHE_DIR, XDG_CACHE_HOME or HOME is set")
}
