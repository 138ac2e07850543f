//! The configuration file of `registry serve`: JSON, with the flags by their names and what no flag can say.

use std::path::Path;
use std::time::Duration as Time;

use ferry_registry::access::{ANONYMOUS, GRANTS, Rule};
use ferry_registry::pattern::Pattern;
use ferry_registry::webhook::Webhook;
use ferry_registry::{Quota, Settings, Upstream, retention};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::registry::{ServeFlags, upstream, webhook};
use crate::failure::Failure;
use crate::flags::{Bytes, Duration, FlagSet as _, FlagValue as _};

/// What the file holds beside flags.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct File {
    upstreams: Vec<UpstreamEntry>,
    rules: Vec<RuleEntry>,
    admins: Vec<String>,
    quotas: Vec<QuotaEntry>,
    retention: Vec<RetentionEntry>,
    webhooks: Vec<WebhookEntry>,
    #[serde(flatten)]
    flags: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamEntry {
    domain: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    repositories: String,
    users: Vec<String>,
    may: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaEntry {
    repositories: String,
    size: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RetentionEntry {
    #[serde(default = "all")]
    repositories: String,
    #[serde(default = "all")]
    tags: String,
    keep: Option<usize>,
    older_than: Option<String>,
    untagged: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookEntry {
    url: String,
    secret: Option<String>,
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default = "all")]
    repositories: String,
}

fn all() -> String {
    "*".to_owned()
}

/// Reads the file; gives the flags with what the file says of those that were not given.
pub fn read(path: &Path, given: ServeFlags) -> Result<(ServeFlags, File), Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read the configuration {shown}: {error}")))?;
    let file: File = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("the configuration {shown} is not valid: {error}")))?;
    let mut flags = ServeFlags::default();
    for (key, value) in &file.flags {
        set(&mut flags, key, value)
            .map_err(|reason| Failure::new(format!("the configuration {shown}: {key}: {reason}")))?;
    }
    Ok((given.over(flags), file))
}

/// Sets a flag from the file's value.
fn set(flags: &mut ServeFlags, key: &str, value: &Value) -> Result<(), String> {
    let values: Vec<&Value> = match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    };
    for value in values {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return Err("not a text, a number or a switch".to_owned()),
        };
        let known = if key == "config" { None } else { flags.set(key, &text) };
        known.ok_or_else(|| {
            "there is no such setting; 'ferry registry serve --help' lists them".to_owned()
        })??;
    }
    Ok(())
}

fn wrong(place: &str, reason: &str) -> Failure {
    Failure::new(format!("the configuration's {place}: {reason}"))
}

/// `36h` as Go has it, and whole days: `30d`.
fn time(text: &str, place: &str) -> Result<Time, Failure> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    if let Some(days) = days {
        return Ok(Time::from_secs(days.saturating_mul(24 * 60 * 60)));
    }
    let Duration(nanoseconds) = Duration::parse(text).map_err(|reason| wrong(place, &reason))?;
    u64::try_from(nanoseconds).map(Time::from_nanos).map_err(|_| wrong(place, "a time cannot be negative"))
}

impl File {
    /// Adds what the file says to the settings.
    pub fn apply(self, settings: &mut Settings) -> Result<(), Failure> {
        for entry in self.upstreams {
            settings.upstreams.push(entry.read()?);
        }
        for entry in self.rules {
            settings.access.rules.push(entry.read()?);
        }
        settings.access.admins = self.admins;
        let mut quotas = Vec::new();
        for entry in self.quotas {
            let mut size = None::<Bytes>;
            size.set(&entry.size).map_err(|reason| wrong("quotas", &reason))?;
            let size = size.and_then(|Bytes(size)| u64::try_from(size).ok());
            let size = size.ok_or_else(|| wrong("quotas", "a size cannot be negative"))?;
            quotas.push(Quota { repositories: Pattern::new(entry.repositories), size });
        }
        // The first that fits counts, and the flag's fits every repository.
        quotas.append(&mut settings.quotas);
        settings.quotas = quotas;
        for entry in self.retention {
            settings.retention.push(entry.read()?);
        }
        for entry in self.webhooks {
            settings.webhooks.push(entry.read()?);
        }
        Ok(())
    }
}

impl UpstreamEntry {
    fn read(self) -> Result<Upstream, Failure> {
        let mut found = match self.prefix.as_str() {
            "" => upstream(&self.domain)?,
            prefix => upstream(&format!("{prefix}={}", self.domain))?,
        };
        found.log_in(self.username, self.password);
        Ok(found)
    }
}

impl RuleEntry {
    fn read(self) -> Result<Rule, Failure> {
        if let Some(unknown) = self.may.iter().find(|grant| !GRANTS.contains(&grant.as_str())) {
            return Err(wrong("rules", &format!("{unknown:?} is none of {}", GRANTS.join(", "))));
        }
        if self.users.is_empty() {
            let hint = format!("a rule names its users; \"*\" are all of them, {ANONYMOUS:?} is everybody");
            return Err(wrong("rules", &hint));
        }
        Ok(Rule { repositories: Pattern::new(self.repositories), users: self.users, may: self.may })
    }
}

impl RetentionEntry {
    fn read(self) -> Result<retention::Rule, Failure> {
        let read = |text: Option<String>| text.map(|text| time(&text, "retention")).transpose();
        Ok(retention::Rule {
            repositories: Pattern::new(self.repositories),
            tags: Pattern::new(self.tags),
            keep: self.keep,
            older_than: read(self.older_than)?,
            untagged: read(self.untagged)?,
        })
    }
}

impl WebhookEntry {
    fn read(self) -> Result<Webhook, Failure> {
        let known = ["push", "pull", "delete", "mount"];
        if let Some(unknown) = self.actions.iter().find(|action| !known.contains(&action.as_str())) {
            return Err(wrong("webhooks", &format!("{unknown:?} is none of {}", known.join(", "))));
        }
        let repositories = Pattern::new(self.repositories);
        Ok(Webhook { secret: self.secret, actions: self.actions, repositories, ..webhook(&self.url)? })
    }
}
