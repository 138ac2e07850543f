//! Names of containers.

use crate::error::CliError;

/// Longer names do not fit a directory entry with a suffix.
const LENGTH_MAX: usize = 1024;

/// Checks a name: it becomes a directory's.
pub(crate) fn check(id: &str) -> Result<(), CliError> {
    if id.is_empty() {
        return Err(CliError::usage("container id cannot be empty"));
    }
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if id.len() > LENGTH_MAX || id == "." || id == ".." || !id.bytes().all(usual) {
        return Err(CliError::usage("invalid container ID format"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_stay_below_the_root() {
        for id in ["a", "A-1_b+c.d", "..."] {
            assert!(super::check(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "é"] {
            assert!(super::check(id).is_err(), "{id}");
        }
    }
}
