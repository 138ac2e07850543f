//! Settings under `/proc/sys/net` of the calling thread's network namespace.

use std::path::PathBuf;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the sysctl {key} to {value:?}: {source}")]
pub struct SysctlError {
    key: String,
    value: String,
    #[source]
    source: std::io::Error,
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}

/// Writes a setting; `key` is relative to `/proc/sys`, with slashes.
pub(crate) fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    std::fs::write(path(key), value).map_err(|source| SysctlError {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Reads a setting without its line end; `None` where the kernel lacks it.
pub(crate) fn read(key: &str) -> Option<String> {
    std::fs::read_to_string(path(key)).ok().map(|text| text.trim().to_owned())
}
