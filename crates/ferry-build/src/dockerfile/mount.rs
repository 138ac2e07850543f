//! `RUN --mount=`: its keys, their values and which type takes which.

use super::directive::parse_bool;
use super::error::nearest;

/// Why a mount is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum MountError {
    #[error("unexpected key {key:?} in {field:?}{}", .suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
    UnknownKey { key: String, field: String, suggestion: Option<String> },
    #[error("unexpected key {key:?} for mount type {kind:?}")]
    KeyForType { key: String, kind: &'static str },
    #[error("invalid field {0:?} must be a key=value pair")]
    NoValue(String),
    #[error("unsupported mount type {name:?}{}", .suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
    UnknownType { name: String, suggestion: Option<String> },
    #[error("invalid value for {key}: {value}")]
    InvalidValue { key: String, value: String },
    #[error("{0} mount requires a target")]
    NoTarget(&'static str),
    #[error("unsupported sharing value {0:?}")]
    UnknownSharing(String),
    #[error("quote not closed in {0:?}")]
    UnclosedQuote(String),
    #[error("{0} mount needs an id or a target")]
    NoSecretId(&'static str),
}

/// Which kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named as the values are")]
pub enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl MountType {
    /// The value of `type=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// How builds share a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Several writers at once.
    #[default]
    Shared,
    /// Each writer gets its own.
    Private,
    /// The second writer waits.
    Locked,
}

/// A parsed `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`
    pub mount_type: MountType,
    /// `from`: stage, image or context.
    pub from: Option<String>,
    /// `source`
    pub source: Option<String>,
    /// `target`
    pub target: Option<String>,
    /// Writes are allowed.
    pub writable: Option<bool>,
    /// `id`
    pub id: Option<String>,
    /// `sharing`
    pub sharing: Sharing,
    /// `required`
    pub required: bool,
    /// `size` in bytes.
    pub size: Option<i64>,
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
    /// `env`: the variable that carries a secret.
    pub env: Option<String>,
}

const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
];

impl Mount {
    /// Parses the comma-separated fields.
    pub fn parse(text: &str) -> Result<Self, MountError> {
        let fields = split_csv(text)?;
        let mut mount = Self { mount_type: mount_type(&fields)?, ..Self::default() };
        for field in &fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
                None => (field.trim().to_ascii_lowercase(), None),
            };
            mount.set(&key, value, field)?;
        }
        mount.check()?;
        Ok(mount)
    }

    fn set(&mut self, key: &str, value: Option<&str>, field: &str) -> Result<(), MountError> {
        let kind = self.mount_type;
        let only = |allowed: &[MountType]| match allowed.contains(&kind) {
            true => Ok(()),
            false => Err(MountError::KeyForType { key: key.to_owned(), kind: kind.name() }),
        };
        let invalid = |value: &str| MountError::InvalidValue { key: key.to_owned(), value: value.to_owned() };
        let switch = |value: Option<&str>| {
            value.map_or(Ok(true), |value| parse_bool(value).map_err(|_| invalid(value)))
        };
        use MountType::{Bind, Cache, Secret, Ssh, Tmpfs};
        match key {
            "readonly" | "ro" => {
                only(&[Bind, Cache])?;
                self.writable = Some(!switch(value)?);
                return Ok(());
            }
            "readwrite" | "rw" => {
                only(&[Bind, Cache])?;
                self.writable = Some(switch(value)?);
                return Ok(());
            }
            "required" => {
                only(&[Secret, Ssh])?;
                self.required = switch(value)?;
                return Ok(());
            }
            _ => {}
        }
        if !KEYS.contains(&key) && key != "env" {
            let suggestion = nearest(key, KEYS);
            return Err(MountError::UnknownKey { key: key.to_owned(), field: field.to_owned(), suggestion });
        }
        let value = value.ok_or_else(|| MountError::NoValue(field.to_owned()))?;
        match key {
            "type" => {}
            "from" => {
                only(&[Bind, Cache])?;
                self.from = Some(value.to_owned());
            }
            "source" | "src" => {
                only(&[Bind, Cache])?;
                self.source = Some(value.to_owned());
            }
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "id" => {
                only(&[Cache, Secret, Ssh])?;
                self.id = Some(value.to_owned());
            }
            "sharing" => {
                only(&[Cache])?;
                self.sharing = match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(MountError::UnknownSharing(value.to_owned())),
                };
            }
            "size" => {
                only(&[Tmpfs])?;
                self.size = Some(parse_size(value).ok_or_else(|| invalid(value))?);
            }
            "mode" => {
                only(&[Cache, Secret, Ssh])?;
                self.mode = Some(u32::from_str_radix(value, 8).map_err(|_| invalid(value))?);
            }
            "uid" => {
                only(&[Cache, Secret, Ssh])?;
                self.uid = Some(value.parse().map_err(|_| invalid(value))?);
            }
            "gid" => {
                only(&[Cache, Secret, Ssh])?;
                self.gid = Some(value.parse().map_err(|_| invalid(value))?);
            }
            _ => {
                only(&[Secret])?;
                self.env = Some(value.to_owned());
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MountError> {
        let named = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        match self.mount_type {
            MountType::Bind | MountType::Cache | MountType::Tmpfs if !named(&self.target) => {
                Err(MountError::NoTarget(self.mount_type.name()))
            }
            MountType::Secret if !named(&self.id) && !named(&self.target) => {
                Err(MountError::NoSecretId("secret"))
            }
            _ => Ok(()),
        }
    }
}

/// `type=` may stand anywhere but decides what the other keys mean.
fn mount_type(fields: &[String]) -> Result<MountType, MountError> {
    let value = fields
        .iter()
        .filter_map(|field| field.split_once('='))
        .filter(|(key, _)| key.trim().eq_ignore_ascii_case("type"))
        .map(|(_, value)| value)
        .next_back();
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("bind") => Ok(MountType::Bind),
        Some("cache") => Ok(MountType::Cache),
        Some("tmpfs") => Ok(MountType::Tmpfs),
        Some("secret") => Ok(MountType::Secret),
        Some("ssh") => Ok(MountType::Ssh),
        Some(other) => {
            let suggestion = nearest(other, ["bind", "cache", "tmpfs", "secret", "ssh"]);
            Err(MountError::UnknownType { name: other.to_owned(), suggestion })
        }
    }
}

/// One record of comma-separated values with double quotes.
pub fn split_csv(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("one field at least");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(MountError::UnclosedQuote(text.to_owned()));
    }
    Ok(fields)
}

/// Docker's sizes: a number with `b`, `k`, `m`, `g`, `t` (binary), also written `kb` or `KiB`.
pub fn parse_size(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number * (1_i64 << shift) as f64;
    (bytes >= 0.0 && bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_every_type() {
        let mount = Mount::parse("type=cache,target=/root/.cache,sharing=locked,mode=0700").expect("valid");
        assert_eq!(
            (mount.mount_type, mount.sharing, mount.mode),
            (MountType::Cache, Sharing::Locked, Some(0o700))
        );
        assert_eq!(Mount::parse("target=/src,rw").expect("valid").writable, Some(true));
        assert_eq!(Mount::parse("type=bind,target=/src,ro=false").expect("valid").writable, Some(true));
        assert_eq!(Mount::parse("type=tmpfs,target=/t,size=1m").expect("valid").size, Some(1 << 20));
        let secret = Mount::parse("type=secret,id=token,env=TOKEN,required").expect("valid");
        assert!(secret.required);
        assert_eq!(secret.env.as_deref(), Some("TOKEN"));
        assert_eq!(Mount::parse("type=ssh").expect("valid").mount_type, MountType::Ssh);
        assert_eq!(Mount::parse("\"target=/a,b\"").expect("valid").target.as_deref(), Some("/a,b"));
    }

    #[test]
    fn refusals_name_the_key() {
        for (text, wanted) in [
            ("type=cache,targt=/x", "did you mean target"),
            ("type=secret,id=x,sharing=locked", "unexpected key \"sharing\" for mount type \"secret\""),
            ("type=bnd,target=/x", "did you mean bind"),
            ("type=cache,target=/x,sharing=all", "unsupported sharing value"),
            ("type=cache,target=/x,uid=a", "invalid value for uid"),
            ("type=bind", "requires a target"),
            ("type=tmpfs,target", "must be a key=value pair"),
            ("target=\"/x", "quote not closed"),
        ] {
            let message = Mount::parse(text).expect_err(text).to_string();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }
}
