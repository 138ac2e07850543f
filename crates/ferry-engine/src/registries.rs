//! What the operator says about registries: the engine's flags and `daemon.json`, as Docker's daemon has them.
//!
//! Owns the merge of both into [`Settings`]. Never speaks to a registry.
//!
//! `daemon.json` is looked for at `--config-file`, else in `/etc/ferry`, else in `/etc/docker`: machines that are set
//! up for Docker keep their mirrors. Of Docker's file only what is about registries is read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_remote::Settings;
use ferry_remote::settings::Proxies;
use http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::daemon_file;
use crate::defaults::Defaults;

/// Looked for where no file is named; the first that is there is read.
const FILES: [&str; 2] = ["/etc/ferry/daemon.json", "/etc/docker/daemon.json"];
/// Largest file that is read; a real one has some hundred bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;
/// The registry that a mirror without a domain stands for, as in Docker.
const DEFAULT_DOMAIN: &str = "docker.io";

/// What the engine's flags say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryOptions {
    /// `--config-file`: the file to read in place of the default ones.
    pub config_file: Option<PathBuf>,
    /// `--registry-mirror`: `URL` for Docker Hub, `DOMAIN=URL` for any registry.
    pub mirrors: Vec<String>,
    /// `--insecure-registry`: host, host with port, or network.
    pub insecure: Vec<String>,
    /// `--registry-timeout`: seconds that a registry may be silent.
    pub timeout: Option<u32>,
    /// `--setting KEY=VALUE`: what would stand in the file, from the command line.
    pub given: Vec<String>,
}

/// Why the operator's wishes cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no such JSON document.
    #[error("{path} is no valid daemon.json")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A setting that neither Docker nor this engine has.
    #[error("{path}: there is no setting `{key}`{nearest}")]
    Key {
        /// The file.
        path: PathBuf,
        /// As written.
        key: String,
        /// What it may have meant.
        nearest: String,
    },
    /// A setting that is known, and would be a promise that is not kept.
    #[error("{path}: `{key}` cannot be had: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// Why not.
        reason: &'static str,
    },
    /// A setting of the command line without a value.
    #[error("--setting {0}: want KEY=VALUE, with a KEY of daemon.json")]
    Given(String),
    /// Said twice.
    #[error(
        "the following directives are specified both as a flag and in the configuration file: {key}: (from flag: {flag}, from file: {file})"
    )]
    Twice {
        /// The setting.
        key: String,
        /// One value.
        flag: String,
        /// The other.
        file: String,
    },
    /// A value of the wrong kind.
    #[error("setting `{key}`: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A mirror's address is none.
    #[error("registry mirror `{mirror}` is not of the form [DOMAIN=]http[s]://HOST[:PORT][/PATH]")]
    Mirror {
        /// As written.
        mirror: String,
    },
    /// A size is none.
    #[error("builder.gc: `{size}` is no size as 20GB")]
    Size {
        /// As written.
        size: String,
    },
    /// An insecure registry is no host.
    #[error("insecure registry `{registry}` is no HOST, HOST:PORT or network as 10.0.0.0/8")]
    Insecure {
        /// As written.
        registry: String,
    },
}

/// The part of `daemon.json` that is about registries.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    proxies: FileProxies,
    builder: FileBuilder,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileBuilder {
    gc: FileBudget,
}

/// Docker has had two names for it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FileBudget {
    default_keep_storage: String,
    default_max_used_space: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct FileProxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
}

impl RegistryOptions {
    /// Settings for all exchanges with registries.
    ///
    /// # Errors
    /// Where the file cannot be read or something in it, or in a flag, makes no sense.
    pub fn settings(&self) -> Result<Settings, RegistriesError> {
        let file = self.file()?;
        let mut settings = Settings::default();
        for mirror in self.mirrors.iter().chain(&file.registry_mirrors) {
            let (domain, address) = parse_mirror(mirror)?;
            settings.mirrors.entry(domain).or_default().push(address);
        }
        for registry in self.insecure.iter().chain(&file.insecure_registries) {
            settings.insecure.push(parse_insecure(registry)?);
        }
        let FileProxies { http_proxy, https_proxy, no_proxy } = file.proxies;
        if !(http_proxy.is_empty() && https_proxy.is_empty()) {
            settings.proxies = Some(Proxies { http: http_proxy, https: https_proxy, none: no_proxy });
        }
        if let Some(seconds) = self.timeout {
            let silence = Duration::from_secs(seconds.max(1).into());
            (settings.answer_timeout, settings.idle_timeout) = (silence, silence);
        }
        Ok(settings)
    }

    /// How much builds may keep, in bytes (`builder.gc.defaultKeepStorage`), where the file says.
    ///
    /// # Errors
    /// Where the file cannot be read or the size is none.
    pub fn build_budget(&self) -> Result<Option<u64>, RegistriesError> {
        let FileBudget { default_keep_storage, default_max_used_space } = self.file()?.builder.gc;
        let given = [default_max_used_space, default_keep_storage];
        let Some(size) = given.into_iter().find(|size| !size.is_empty()) else { return Ok(None) };
        parse_size(&size).map(Some).ok_or(RegistriesError::Size { size })
    }

    /// What containers and networks get that say nothing themselves.
    ///
    /// # Errors
    /// Where the file cannot be read or a value makes no sense.
    pub fn defaults(&self) -> Result<Defaults, RegistriesError> {
        Defaults::read(&self.document()?)
    }

    /// Addresses and data root of the file. Those in Docker's own file are its engine's, not this one's.
    ///
    /// # Errors
    /// As for [`RegistryOptions::settings`].
    pub fn places(&self) -> Result<(Vec<String>, Option<PathBuf>), RegistriesError> {
        if self.path().is_none_or(|path| path == Path::new(FILES[1])) {
            return Ok((Vec::new(), None));
        }
        let places: Places = parsed(&self.document()?)?;
        Ok((places.hosts, Some(places.data_root).filter(|root| !root.as_os_str().is_empty())))
    }

    fn file(&self) -> Result<File, RegistriesError> {
        parsed(&self.document()?)
    }

    fn path(&self) -> Option<PathBuf> {
        let default = || FILES.iter().map(PathBuf::from).find(|path| path.exists());
        self.config_file.clone().or_else(default)
    }

    /// The file, with what the command line says.
    fn document(&self) -> Result<Map<String, Value>, RegistriesError> {
        let mut document = match self.path() {
            Some(path) => read_file(&path)?,
            None => Map::new(),
        };
        for (key, flag) in given(&self.given)? {
            if let Some(file) = document.get(&key) {
                let (flag, file) = (flag.to_string(), file.to_string());
                return Err(RegistriesError::Twice { key, flag, file });
            }
            document.insert(key, flag);
        }
        Ok(document)
    }
}

/// Where an engine is and answers, in `daemon.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Places {
    hosts: Vec<String>,
    data_root: PathBuf,
}

/// Takes out of the document what is `T`'s, and names the setting whose value is of the wrong kind.
pub(crate) fn parsed<T: serde::de::DeserializeOwned>(
    document: &Map<String, Value>,
) -> Result<T, RegistriesError> {
    serde_json::from_value(Value::Object(document.clone())).map_err(|error| {
        let alone = |entry: &(&String, &Value)| {
            let one = Map::from_iter([(entry.0.clone(), entry.1.clone())]);
            serde_json::from_value::<T>(Value::Object(one)).is_err()
        };
        let key = document.iter().find(alone).map_or_else(String::new, |(key, _)| key.clone());
        RegistriesError::Value { key, reason: error.to_string() }
    })
}

/// `KEY=VALUE` of the command line; lists and objects that are given several times become one.
fn given(words: &[String]) -> Result<Map<String, Value>, RegistriesError> {
    let mut found = Map::new();
    for word in words {
        let (key, text) = word.split_once('=').ok_or_else(|| RegistriesError::Given(word.clone()))?;
        check_key(key, "--setting".as_ref())?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        refuse(key, &value, "--setting".as_ref())?;
        match (found.get_mut(key), value) {
            (Some(Value::Array(old)), Value::Array(more)) => old.extend(more),
            (Some(Value::Object(old)), Value::Object(more)) => old.extend(more),
            (_, value) => {
                found.insert(key.to_owned(), value);
            }
        }
    }
    Ok(found)
}

fn check_key(key: &str, path: &Path) -> Result<(), RegistriesError> {
    if daemon_file::is_known(key) {
        return Ok(());
    }
    let nearest = daemon_file::nearest(key).map(|near| format!("; did you mean `{near}`?"));
    let (path, key) = (path.to_owned(), key.to_owned());
    Err(RegistriesError::Key { path, key, nearest: nearest.unwrap_or_default() })
}

fn refuse(key: &str, value: &Value, path: &Path) -> Result<(), RegistriesError> {
    match daemon_file::refusal(key, value) {
        Some(reason) => Err(RegistriesError::Refused { path: path.to_owned(), key: key.to_owned(), reason }),
        None => Ok(()),
    }
}

fn read_file(path: &Path) -> Result<Map<String, Value>, RegistriesError> {
    let failed = |source| RegistriesError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    fs::File::open(path).and_then(|file| file.take(FILE_SIZE_MAX).read_to_end(&mut text)).map_err(failed)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let parse = |source| RegistriesError::Parse { path: path.to_owned(), source };
    let document: Map<String, Value> = serde_json::from_slice(&text).map_err(parse)?;
    for (key, value) in &document {
        check_key(key, path)?;
        refuse(key, value, path)?;
    }
    Ok(document)
}

/// The settings that are Docker's and have no effect here, each with what holds instead.
pub fn without_effect(options: &RegistryOptions) -> Vec<(String, &'static str)> {
    let document = options.document().unwrap_or_default();
    let idle = document.into_iter().map(|(key, _)| key).filter(|key| !daemon_file::has_effect(key));
    idle.map(|key| (daemon_file::instead(&key), key)).map(|(instead, key)| (key, instead)).collect()
}

/// A number with one of Docker's units, of 1024 each.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let power = match text[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1024_u64.pow(power))
}

/// Domain and address of `[DOMAIN=]URL`.
fn parse_mirror(text: &str) -> Result<(String, String), RegistriesError> {
    let wrong = || RegistriesError::Mirror { mirror: text.to_owned() };
    let (domain, address) = match text.split_once('=') {
        Some((domain, address)) if !domain.contains("://") => (domain, address),
        _ => (DEFAULT_DOMAIN, text),
    };
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    // A password in a mirror's address would end up in every message; certificates are the way to prove who asks.
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if domain.is_empty() || !is_web || !is_plain || uri.query().is_some() {
        return Err(wrong());
    }
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    Ok((domain.to_owned(), address.trim_end_matches('/').to_owned()))
}

fn parse_insecure(text: &str) -> Result<String, RegistriesError> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    let host = host.trim_end_matches('/');
    let is_network = host.split_once('/').is_some_and(|(base, length)| {
        base.parse::<std::net::IpAddr>().is_ok() && length.parse::<u8>().is_ok()
    });
    let is_host = !host.contains('/') && host.parse::<http::uri::Authority>().is_ok() && !host.contains('@');
    match is_network || is_host {
        true => Ok(host.to_owned()),
        false => Err(RegistriesError::Insecure { registry: text.to_owned() }),
    }
}

/// What the event `daemon reload` tells, under Docker's names.
pub fn event_attributes(settings: &Settings, defaults: &Defaults) -> BTreeMap<String, String> {
    let list = |values: &[String]| serde_json::Value::from(values).to_string();
    let hub = settings.mirrors.get(DEFAULT_DOMAIN).map(Vec::as_slice).unwrap_or_default();
    [
        ("debug", defaults.debug.to_string()),
        ("insecure-registries", list(&settings.insecure)),
        ("labels", list(&defaults.labels)),
        ("registry-mirrors", list(hub)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Mirrors of Docker Hub as `/info` shows them: with a slash at the end.
pub fn shown_mirrors(mirrors: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let hub = mirrors.get(DEFAULT_DOMAIN).into_iter().flatten();
    hub.map(|address| format!("{address}/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        for (text, expected) in [
            ("https://mirror.example", Some(("docker.io", "https://mirror.example"))),
            ("http://127.0.0.1:5000/hub/", Some(("docker.io", "http://127.0.0.1:5000/hub"))),
            ("quay.example=https://m.example/q", Some(("quay.example", "https://m.example/q"))),
            ("index.docker.io=https://m.example", Some(("docker.io", "https://m.example"))),
            ("mirror.example", None),
            ("ftp://mirror.example", None),
            ("https://ann:secret@mirror.example", None),
            ("https://mirror.example/?x=y", None),
            ("", None),
        ] {
            let found = parse_mirror(text).ok();
            let expected = expected.map(|(domain, address)| (domain.to_owned(), address.to_owned()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn insecure_registries() {
        for (text, expected) in [
            ("lab.example", Some("lab.example")),
            ("http://lab.example:5000/", Some("lab.example:5000")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("lab.example/path", None),
            ("10.0.0.0/x", None),
            ("", None),
        ] {
            assert_eq!(parse_insecure(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn flags_and_file_together() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"registry-mirrors": ["https://b.example"], "insecure-registries": ["lab.example"],
            "proxies": {"https-proxy": "http://proxy.example:3128", "no-proxy": "lab.example"}, "debug": true}"#;
        fs::write(file.path(), text).unwrap();
        let options = RegistryOptions {
            config_file: Some(file.path().to_owned()),
            mirrors: vec!["https://a.example".into()],
            insecure: vec!["10.0.0.0/8".into()],
            timeout: Some(7),
            given: Vec::new(),
        };
        let settings = options.settings().unwrap();
        assert_eq!(settings.idle_timeout.as_secs(), 7);
        assert_eq!(settings.mirrors["docker.io"], ["https://a.example", "https://b.example"]);
        assert_eq!(settings.insecure, ["10.0.0.0/8", "lab.example"]);
        assert_eq!(settings.proxies.unwrap().https, "http://proxy.example:3128");
        assert_eq!(shown_mirrors(&settings.mirrors), ["https://a.example/", "https://b.example/"]);

        fs::write(file.path(), "{").unwrap();
        let error = options.settings().unwrap_err().to_string();
        assert!(error.contains("daemon.json") && error.contains(&file.path().display().to_string()));
    }
}
