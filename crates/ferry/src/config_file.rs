//! `~/.docker/config.json`: default formats, detach keys, proxies, credentials, the current context.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ferry_api::Filters;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::output;
use crate::session::environment;

/// The client's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigFile {
    /// The folder it was looked for in.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Credentials by registry.
    pub auths: BTreeMap<String, StoredAuth>,
    /// The program that keeps credentials, where there is one.
    pub creds_store: String,
    /// Programs that keep credentials, by registry.
    pub cred_helpers: BTreeMap<String, String>,
    /// Name of the context in use.
    pub current_context: String,
    /// Keys that detach from a container.
    pub detach_keys: String,
    /// Default format of `ps`.
    pub ps_format: String,
    /// Default format of `images`.
    pub images_format: String,
    /// Default format of `stats`.
    pub stats_format: String,
    /// Default format of `network ls`.
    pub networks_format: String,
    /// Default format of `volume ls`.
    pub volumes_format: String,
    /// Proxies for containers, by engine address; `default` for all.
    pub proxies: BTreeMap<String, Proxy>,
    /// Headers sent with each call.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    /// `KEY=VALUE` filters of every prune.
    pub prune_filters: Vec<String>,
}

/// Credentials of one registry.
#[derive(Debug, Default, Clone, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct StoredAuth {
    /// `user:password` in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// A token instead of a password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token to be used as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
    /// The user's name, where `auth` does not say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The password, where `auth` does not say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
}

/// Proxy settings that containers get as variables.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// For `http_proxy`.
    pub http_proxy: String,
    /// For `https_proxy`.
    pub https_proxy: String,
    /// For `no_proxy`.
    pub no_proxy: String,
    /// For `ftp_proxy`.
    pub ftp_proxy: String,
    /// For `all_proxy`.
    pub all_proxy: String,
}

/// Where TLS certificates are that nobody named: `$DOCKER_CERT_PATH`, `$DOCKER_CONFIG`, `~/.docker`.
pub fn certificate_folder() -> PathBuf {
    let named = environment("DOCKER_CERT_PATH").or_else(|| environment("DOCKER_CONFIG"));
    named.map_or_else(home_folder, PathBuf::from)
}

fn home_folder() -> PathBuf {
    PathBuf::from(environment("HOME").unwrap_or_else(|| "/root".into())).join(".docker")
}

impl ConfigFile {
    /// Reads the file in `directory`, or in `$DOCKER_CONFIG`, or in `~/.docker`. A file that is not there is
    /// an empty one; one that cannot be read is said and passed over, as Docker does.
    pub fn load(directory: Option<&str>) -> ConfigFile {
        let directory =
            directory.map(PathBuf::from).or_else(|| environment("DOCKER_CONFIG").map(PathBuf::from));
        let directory = directory.unwrap_or_else(home_folder);
        let path = directory.join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                output::note(&format!("WARNING: Error loading config file: {}: {error}", path.display()));
                ConfigFile::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => ConfigFile::default(),
            Err(error) => {
                output::note(&format!("WARNING: Error loading config file: {}: {error}", path.display()));
                ConfigFile::default()
            }
        };
        config.directory = directory;
        config
    }

    /// The variables that containers get for the proxies set for `host`.
    pub fn proxy_variables(&self, host: &str) -> Vec<(&'static str, String)> {
        let Some(proxy) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let pairs = [
            (["HTTP_PROXY", "http_proxy"], &proxy.http_proxy),
            (["HTTPS_PROXY", "https_proxy"], &proxy.https_proxy),
            (["NO_PROXY", "no_proxy"], &proxy.no_proxy),
            (["FTP_PROXY", "ftp_proxy"], &proxy.ftp_proxy),
            (["ALL_PROXY", "all_proxy"], &proxy.all_proxy),
        ];
        let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        given.flat_map(|(names, value)| names.map(|name| (name, value.clone()))).collect()
    }

    /// Headers for each call: those of `$DOCKER_CUSTOM_HEADERS` (`NAME=VALUE,…`) where that is set, else the file's.
    pub fn headers(&self) -> Result<Vec<(String, String)>, Failure> {
        const VARIABLE: &str = "DOCKER_CUSTOM_HEADERS";
        let Some(text) = environment(VARIABLE) else {
            return Ok(self.http_headers.clone().into_iter().collect());
        };
        let pairs = text.split(',').map(|pair| {
            let (name, value) = pair.trim().trim_matches('"').split_once('=').unwrap_or_default();
            let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            let is_header =
                !name.is_empty() && is_name(name) && value.bytes().all(|b| (b' '..=b'~').contains(&b));
            match is_header {
                true => Ok((name.to_owned(), value.to_owned())),
                false => Err(Failure::new(format!("{VARIABLE}: {pair:?} is no NAME=VALUE of a header"))),
            }
        });
        pairs.collect()
    }

    /// Adds the filters that the file has for every prune, but none that says the opposite of one that is there.
    pub fn filter_prune(&self, filters: &mut Filters) {
        for (key, value) in self.prune_filters.iter().filter_map(|filter| filter.split_once('=')) {
            let opposite = match key {
                "label" => "label!",
                "label!" => "label",
                _ => "",
            };
            if !value.is_empty() && !filters.get(opposite).any(|given| given == value) {
                filters.add(key, value);
            }
        }
    }

    /// Changes the file: reads it anew as it is, lets `change` edit it, and replaces it whole.
    pub fn edit(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> io::Result<PathBuf> {
        let path = self.directory.join("config.json");
        let mut map = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => serde_json::Map::new(),
            Err(error) => return Err(error),
        };
        change(&mut map);
        std::fs::create_dir_all(&self.directory)?;
        write_private(&path, &serde_json::to_vec_pretty(&map)?)?;
        Ok(path)
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
