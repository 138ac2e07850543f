//! API versions: which ones are served, how a path names one, and what Docker says to the others.

use std::fmt;

use crate::error::HttpError;

/// A version of the Docker Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// `true` from 1.`minor` on.
    pub fn at_least(self, minor: u16) -> bool {
        self >= Self::new(1, minor)
    }

    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Oldest version served: clients that Docker itself dropped (Traefik 3.6, docker-java) still ask for it.
pub const MIN_API_VERSION: ApiVersion = ApiVersion::new(1, 24);
/// Newest version served, and what a path without a version means.
pub const MAX_API_VERSION: ApiVersion = ApiVersion::new(1, 55);

/// The version a request asked for and the rest of its path.
#[derive(Debug, PartialEq, Eq)]
pub struct VersionedPath<'a> {
    /// The version whose shapes the answer has.
    pub version: ApiVersion,
    /// Whether the path named it.
    pub explicit: bool,
    /// The path without the version.
    pub path: &'a str,
}

/// Takes `/v1.41` off a path. A first segment that is no version (`/version`, `/volumes`) stays.
pub fn split_path(path: &str) -> Result<VersionedPath<'_>, HttpError> {
    let unversioned = VersionedPath { version: MAX_API_VERSION, explicit: false, path };
    let Some(after) = path.strip_prefix("/v") else { return Ok(unversioned) };
    let end = after.find('/').unwrap_or(after.len());
    let (text, rest) = after.split_at(end);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Ok(unversioned);
    }
    let version = ApiVersion::parse(text)
        .ok_or_else(|| HttpError::bad_request(format!("invalid API version {text:?} in the path")))?;
    if version < MIN_API_VERSION {
        return Err(HttpError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client to a newer version"
        )));
    }
    if version > MAX_API_VERSION {
        return Err(HttpError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {MAX_API_VERSION}"
        )));
    }
    Ok(VersionedPath { version, explicit: true, path: if rest.is_empty() { "/" } else { rest } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_and_without_a_version() {
        for (path, version, explicit, rest) in [
            ("/_ping", "1.55", false, "/_ping"),
            ("/version", "1.55", false, "/version"),
            ("/volumes/x", "1.55", false, "/volumes/x"),
            ("/v1.24/containers/json", "1.24", true, "/containers/json"),
            ("/v1.55/_ping", "1.55", true, "/_ping"),
            ("/v1.41", "1.41", true, "/"),
        ] {
            let split = split_path(path).expect(path);
            assert_eq!(
                (split.version.to_string().as_str(), split.explicit, split.path),
                (version, explicit, rest)
            );
        }
    }

    #[test]
    fn too_old_and_too_new_say_so_as_docker_does() {
        for (path, message) in [
            (
                "/v1.23/info",
                "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
            ("/v1.99/info", "client version 1.99 is too new. Maximum supported API version is 1.55"),
            ("/v1.2.3/info", "invalid API version \"1.2.3\" in the path"),
            ("/v99999999.1/info", "invalid API version \"99999999.1\" in the path"),
        ] {
            let error = split_path(path).expect_err(path);
            assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
            assert_eq!(error.message, message);
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(ApiVersion::new(1, 9) < ApiVersion::new(1, 24));
        assert!(ApiVersion::new(1, 44).at_least(44));
        assert!(!ApiVersion::new(1, 43).at_least(44));
    }
}
