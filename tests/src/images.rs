//! Where the image factory (`cargo xtask images`) keeps its archives.

use std::env;
use std::path::PathBuf;

/// The archive of a factory image.
///
/// # Panics
/// Where the factory has not made it yet.
#[must_use]
pub fn archive(name: &str) -> PathBuf {
    let cache = env::var_os("FERRY_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| env::var_os("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("ferry")))
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ferry")))
        .expect("FERRY_CACHE_DIR, XDG_CACHE_HOME or HOME is set");
    let archive = cache.join("images").join(format!("{name}.tar"));
    assert!(archive.exists(), "{} is missing; run: cargo xtask images {name}", archive.display());
    archive
}
