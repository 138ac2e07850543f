//! Who may do what: passwords, tokens, and what everybody may.

mod htpasswd;
mod rules;
mod token;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use sha2::{Digest as _, Sha256};

use crate::refusal::{Code, Refusal};
use crate::settings::Access;
pub use htpasswd::AccessError;
use htpasswd::Passwords;
pub use rules::{ANONYMOUS, GRANTS, Rule};
pub use token::{Grant, SERVICE, Signer};

/// How long a password that was right is not checked again: bcrypt is slow by intent, and a pull sends it with
/// every request.
const REMEMBER: Duration = Duration::from_secs(300);
/// Most right passwords that are remembered.
const REMEMBERED_MAX: usize = 1000;
/// Passwords that are checked at a time, so that guessing does not take all processors.
const CHECKS_MAX: usize = 2;

/// What somebody wants to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Learn whether the login is right.
    Ping,
    /// List repositories.
    Catalog,
    /// Read.
    Pull,
    /// Add.
    Push,
    /// Remove.
    Delete,
    /// Look after the registry itself.
    Manage,
    /// Take a blob from it where that is allowed, and send the blob where it is not.
    Mount,
}

impl Action {
    /// Its name in a token's scope.
    fn scope(self) -> &'static str {
        match self {
            Action::Ping => "",
            Action::Catalog | Action::Manage => "*",
            Action::Pull | Action::Mount => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// The registry knows no users.
    Anybody,
    /// Somebody without a password.
    Anonymous,
    /// Somebody whose password was right.
    Named(String),
    /// The bearer of a token: whom it was given to, and for what.
    Bearer(String, Vec<Grant>),
}

impl User {
    /// A name for the log.
    pub fn name(&self) -> &str {
        match self {
            User::Anybody | User::Anonymous => "-",
            User::Named(name) | User::Bearer(name, _) => name,
        }
    }
}

/// Decides.
pub struct Guard {
    settings: Access,
    passwords: Option<Passwords>,
    signer: Signer,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    checks: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Guard").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, message)
}

impl Guard {
    /// Reads the password file, and the key of tokens, which is made where there is none.
    pub fn open(settings: &Access, key_file: &std::path::Path) -> Result<Guard, AccessError> {
        let passwords = settings.htpasswd.as_deref().map(Passwords::open).transpose()?;
        Ok(Guard {
            settings: settings.clone(),
            passwords,
            signer: Signer::open(key_file)?,
            remembered: Mutex::default(),
            checks: tokio::sync::Semaphore::new(CHECKS_MAX),
        })
    }

    /// Finds out who sent a request, and refuses it where they may not do all that it does. Browsers know how to
    /// ask their user for a password, and nothing of tokens.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        actions: &[(String, Action)],
        origin: &str,
        for_browsers: bool,
    ) -> Result<User, Refusal> {
        if self.passwords.is_none() {
            return Ok(User::Anybody);
        }
        let challenge = |refusal: Refusal| {
            let text = match for_browsers {
                true => self.basic_challenge(),
                false => self.challenge(actions, origin),
            };
            refusal.header(WWW_AUTHENTICATE, &text)
        };
        let user = self.identify(headers).await.map_err(challenge)?;
        for (repository, action) in actions {
            if !self.allows(&user, repository, *action) {
                return Err(match user {
                    // Another login would have to be another user's.
                    User::Named(name) => {
                        Refusal::new(Code::Denied, format!("{name} may not do this in {repository}"))
                    }
                    _ => challenge(unauthorized("authentication required")),
                });
            }
        }
        Ok(user)
    }

    /// Who a request's `Authorization` names.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(User::Anonymous) };
        let text = header.to_str().map_err(|_| unauthorized("the Authorization header is not valid"))?;
        let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let claims = self.signer.verify(value.trim(), crate::registry::now());
            let (user, grants) =
                claims.ok_or_else(|| unauthorized("the token is not valid, or no longer"))?;
            return Ok(User::Bearer(user, grants));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(unauthorized("only Basic and Bearer authentication are known"));
        }
        let decoded = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(|| unauthorized("the Authorization header is not valid"))?;
        let (name, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
        // Some clients send an empty name where they have none.
        if name.is_empty() && password.is_empty() {
            return Ok(User::Anonymous);
        }
        match self.check(name, password).await? {
            true => Ok(User::Named(name.to_owned())),
            false => Err(unauthorized("the user's name or password is wrong")),
        }
    }

    /// Checks a password.
    pub async fn check(&self, name: &str, password: &str) -> Result<bool, Refusal> {
        let Some(passwords) = &self.passwords else { return Ok(true) };
        let hash = passwords.hash_of(name).map_err(Refusal::fault)?;
        let mut hasher = Sha256::new();
        for part in [name, &hash.text, password] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let key: [u8; 32] = hasher.finalize().into();
        let now = Instant::now();
        let known = |remembered: &mut HashMap<[u8; 32], Instant>| {
            remembered.retain(|_, since| now.duration_since(*since) < REMEMBER);
            remembered.contains_key(&key)
        };
        if known(&mut self.remembered.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(hash.known);
        }
        let _permit = self.checks.acquire().await.map_err(Refusal::fault)?;
        let (password, known) = (password.to_owned(), hash.known);
        let verify = move || bcrypt::verify(password, &hash.text).unwrap_or(false);
        let right = tokio::task::spawn_blocking(verify).await.map_err(Refusal::fault)? && known;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if right && remembered.len() < REMEMBERED_MAX {
            remembered.insert(key, now);
        }
        Ok(right)
    }

    /// Whether a user may do this in a repository.
    pub fn may(&self, user: &User, repository: &str, action: Action) -> bool {
        self.allows(user, repository, action)
    }

    fn allows(&self, user: &User, repository: &str, action: Action) -> bool {
        let ruled = matches!(action, Action::Pull | Action::Push | Action::Delete);
        let decided = ruled.then(|| rules::decide(&self.settings.rules, user, repository, action)).flatten();
        match (user, action) {
            // A mount that is not allowed becomes an upload.
            (_, Action::Mount) | (User::Anybody, _) => true,
            (User::Named(name), Action::Manage) => {
                self.settings.admins.is_empty() || self.settings.admins.contains(name)
            }
            (_, Action::Manage) => false,
            (User::Named(_), _) => decided.unwrap_or(true),
            (User::Anonymous, Action::Pull) => decided.unwrap_or(self.settings.anonymous_pull),
            // With public repositories there is something to list; each is checked by itself.
            (User::Anonymous, Action::Catalog) => self.settings.anonymous_pull,
            (User::Anonymous, _) => decided.unwrap_or(false),
            (User::Bearer(..), Action::Ping) => true,
            (User::Bearer(_, grants), Action::Catalog) => {
                grants.iter().any(|grant| grant.allows("registry", "catalog", action.scope()))
            }
            (User::Bearer(_, grants), _) => {
                let granted =
                    grants.iter().any(|grant| grant.allows("repository", repository, action.scope()));
                // A token is no more than its user, and never less than nobody.
                (granted && decided.unwrap_or(true)) || self.allows(&User::Anonymous, repository, action)
            }
        }
    }

    /// Whether a user may read a repository.
    pub fn may_pull(&self, user: &User, repository: &str) -> bool {
        match user {
            // The catalog's own grant lets its bearer see all names.
            User::Bearer(_, grants) if grants.iter().any(|g| g.allows("registry", "catalog", "*")) => true,
            _ => self.allows(user, repository, Action::Pull),
        }
    }

    /// Gives a token for the scopes asked for, as far as the user may have them.
    pub fn token(&self, user: &User, scopes: &[&str]) -> Option<(String, u64)> {
        let wanted = scopes.iter().flat_map(|scope| scope.split(' ')).filter_map(Grant::parse);
        let grants: Vec<Grant> = match user {
            User::Named(_) => wanted.collect(),
            User::Anonymous if self.settings.anonymous_pull || !self.settings.rules.is_empty() => {
                wanted.filter_map(|grant| grant.only("repository", "pull")).collect()
            }
            _ => return None,
        };
        Some(self.signer.sign(user.name(), grants, crate::registry::now()))
    }

    /// What a client must do to be let in.
    fn challenge(&self, actions: &[(String, Action)], origin: &str) -> String {
        if !self.settings.tokens {
            return self.basic_challenge();
        }
        let scopes: Vec<String> = actions
            .iter()
            .filter_map(|(repository, action)| match action {
                Action::Ping => None,
                Action::Catalog | Action::Manage => Some("registry:catalog:*".to_owned()),
                Action::Push => Some(format!("repository:{repository}:pull,push")),
                action => Some(format!("repository:{repository}:{}", action.scope())),
            })
            .collect();
        let mut text = format!("Bearer realm=\"{origin}/token\",service=\"{SERVICE}\"");
        if !scopes.is_empty() {
            text.push_str(&format!(",scope=\"{}\"", scopes.join(" ").replace(['"', '\\'], "")));
        }
        text
    }

    /// The challenge of the token endpoint, and of a registry without tokens.
    pub fn basic_challenge(&self) -> String {
        format!("Basic realm=\"{}\"", self.settings.realm.replace(['"', '\\'], ""))
    }

    /// Whether there are users at all.
    pub fn has_users(&self) -> bool {
        self.passwords.is_some()
    }
}
