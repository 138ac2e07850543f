//! Bearer tokens of this registry: who, for what, until when; signed with a key that only it has.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::AccessError;

/// How clients name this registry when they ask for a token.
pub const SERVICE: &str = "ferry-registry";
/// How long a token holds; long enough for a large push.
const LIFETIME_SECONDS: u64 = 15 * 60;
/// Bytes of the key.
const KEY_LENGTH: usize = 32;
/// Longest token that is looked at.
const TOKEN_MAX: usize = 16 << 10;
/// Most scopes in one token.
const GRANTS_MAX: usize = 64;

/// `repository:NAME:pull,push`, granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Grant {
    /// Reads a scope; None where it is not of the form.
    pub fn parse(text: &str) -> Option<Grant> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Some(Grant { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    /// With nothing but this action; None where it has not even that.
    pub fn only(mut self, kind: &str, action: &str) -> Option<Grant> {
        self.actions.retain(|own| own == action);
        (self.kind == kind && !self.actions.is_empty()).then_some(self)
    }

    /// Whether it covers an action.
    pub fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.kind == kind && self.name == name && self.actions.iter().any(|own| own == action || own == "*")
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
    access: Vec<Grant>,
}

/// Signs and verifies.
pub struct Signer(hmac::Key);

impl Signer {
    /// Reads the key, or makes one.
    pub fn open(path: &Path) -> Result<Signer, AccessError> {
        let failed = |source: io::Error| AccessError::File { path: path.to_owned(), source };
        let key = match fs::read(path) {
            Ok(key) if key.len() == KEY_LENGTH => key,
            Ok(_) => make_key(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// A token, and the seconds for which it holds.
    pub fn sign(&self, user: &str, mut access: Vec<Grant>, now: u64) -> (String, u64) {
        access.truncate(GRANTS_MAX);
        let claims = Claims {
            sub: user.to_owned(),
            aud: SERVICE.to_owned(),
            iat: now,
            exp: now + LIFETIME_SECONDS,
            access,
        };
        let claims = serde_json::to_vec(&claims).expect("texts and numbers can always be written");
        let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.0, text.as_bytes());
        (format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)), LIFETIME_SECONDS)
    }

    /// Whom a token was given to and for what; None where it is not ours or no longer holds. The head is not
    /// looked at: there is one kind of signature only.
    pub fn verify(&self, token: &str, now: u64) -> Option<(String, Vec<Grant>)> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (text, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, text.as_bytes(), &signature).ok()?;
        let (_, claims) = text.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (claims.aud == SERVICE && claims.exp > now).then_some((claims.sub, claims.access))
    }
}

fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_LENGTH];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_for_what_they_say_and_not_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let signer = Signer::open(&path).unwrap();
        let grant = Grant::parse("repository:a/b:pull,push").unwrap();
        let (token, lifetime) = signer.sign("ann", vec![grant.clone()], 100);
        assert_eq!(signer.verify(&token, 100), Some(("ann".to_owned(), vec![grant.clone()])));
        assert_eq!(Signer::open(&path).unwrap().verify(&token, 100).unwrap().0, "ann", "over a restart");
        assert_eq!(signer.verify(&token, 100 + lifetime), None);
        for broken in ["", ".", "..", "a.b.c", &token[1..], &token[..token.len() - 1], &format!("{token}x")] {
            assert_eq!(signer.verify(broken, 100), None, "{broken}");
        }
        let other = Signer::open(&folder.path().join("other")).unwrap();
        assert_eq!(other.verify(&token, 100), None);
        assert!(grant.allows("repository", "a/b", "pull"));
        assert!(!grant.allows("repository", "a/b", "delete"));
        assert!(!grant.allows("repository", "a", "pull"));
        assert!(grant.clone().only("registry", "pull").is_none());
        assert!(!grant.only("repository", "pull").unwrap().allows("repository", "a/b", "push"));
    }
}
