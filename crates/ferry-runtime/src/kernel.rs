//! Which kernel is running, where its interfaces differ by version and cannot be probed.

/// Major and minor version of the running kernel; an unreadable one counts as the oldest.
pub(crate) fn version() -> (u32, u32) {
    parse_version(&rustix::system::uname().release().to_string_lossy()).unwrap_or((0, 0))
}

/// "4.8" or "6.1.0-13-amd64" as major and minor.
pub(crate) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("4.8"), Some((4, 8)));
        assert_eq!(parse_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_version("new"), None);
        assert!(version() > (3, 0));
    }
}
