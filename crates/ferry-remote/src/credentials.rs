//! Who asks: user name and password, or a token; as clients hand it over in `X-Registry-Auth`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Proof of identity for one registry. Its `Debug` form hides the secrets.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password, or personal access token.
    pub password: String,
    /// Refresh token got at login, used in place of the password.
    #[serde(alias = "identitytoken", rename = "identitytoken")]
    pub identity_token: String,
    /// Bearer token to be used as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
    /// Address that the credentials are for.
    pub serveraddress: String,
}

/// The header does not hold credentials.
#[derive(Debug, thiserror::Error)]
#[error("X-Registry-Auth is not base64url of a JSON object with username and password")]
pub struct CredentialsError;

impl Credentials {
    /// Decodes an `X-Registry-Auth` header: base64url (padded or not; old clients use the standard alphabet) of JSON.
    /// An empty header or object means: nobody in particular.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn from_header(header: &str) -> Result<Option<Self>, CredentialsError> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(None);
        }
        let decoded = URL_SAFE
            .decode(header)
            .or_else(|_| URL_SAFE_NO_PAD.decode(header.trim_end_matches('=')))
            .or_else(|_| STANDARD.decode(header))
            .map_err(|_| CredentialsError)?;
        let credentials: Self = serde_json::from_slice(&decoded).map_err(|_| CredentialsError)?;
        Ok((!credentials.is_empty()).then_some(credentials))
    }

    /// Whether nothing is proved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The value of a Basic `Authorization` header (RFC 7617).
    #[must_use]
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({})", if self.is_empty() { "nobody" } else { &self.username })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_forms() {
        let json = r#"{"username":"ann","password":"p?>","serveraddress":"x"}"#;
        for encoded in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json), STANDARD.encode(json)] {
            let found = Credentials::from_header(&encoded).expect("decodes").expect("somebody");
            assert_eq!((found.username.as_str(), found.password.as_str()), ("ann", "p?>"));
        }
        assert_eq!(Credentials::from_header("").expect("empty"), None);
        assert_eq!(Credentials::from_header(&URL_SAFE.encode("{}")).expect("nobody"), None);
        assert!(Credentials::from_header("{}").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials =
            Credentials { username: "ann".into(), password: "secret".into(), ..Credentials::default() };
        assert_eq!(format!("{credentials:?}"), "Credentials(ann)");
    }
}
