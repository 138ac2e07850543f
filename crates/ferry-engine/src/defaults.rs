//! What containers and networks get that say nothing themselves: the settings of `daemon.json` beside those about
//! registries, under Docker's names.
//!
//! Owns their reading and the filling in. A container keeps what it was made with; a changed file counts for the next one.

use std::collections::BTreeMap;

use ferry_api::container::{Config, HostConfig, Ulimit};
use ferry_net::address::Subnet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::host::Host;
use crate::registries::{RegistriesError, parse_size, parsed};

/// The settings that this engine obeys.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Defaults {
    /// For containers.
    #[serde(flatten)]
    pub container: ContainerDefaults,
    /// For networks.
    #[serde(flatten)]
    pub network: NetworkDefaults,
    /// `labels`: of this engine, in `/info`.
    pub labels: Vec<String>,
    /// `debug`: the log tells more.
    pub debug: bool,
    /// `log-level`: what the log tells.
    pub log_level: String,
}

/// What containers get.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ContainerDefaults {
    /// `log-driver`.
    pub log_driver: String,
    /// `log-opts`.
    pub log_opts: BTreeMap<String, String>,
    default_ulimits: BTreeMap<String, DefaultUlimit>,
    default_shm_size: Size,
    default_ipc_mode: String,
    default_cgroupns_mode: String,
    default_stop_timeout: Option<i64>,
    dns: Vec<String>,
    dns_search: Vec<String>,
    dns_opts: Vec<String>,
    init: Option<bool>,
    cgroup_parent: String,
    no_new_privileges: bool,
    seccomp_profile: String,
}

/// What networks get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NetworkDefaults {
    /// `bip`: the host's address on the default bridge, with its subnet.
    pub bip: String,
    /// `fixed-cidr`: addresses of its containers.
    pub fixed_cidr: String,
    /// `default-gateway`: of its containers.
    pub default_gateway: String,
    /// `mtu`: of its packets.
    pub mtu: Option<u32>,
    /// `icc`: its containers reach each other.
    pub icc: Option<bool>,
    /// `ip-masq`: they leave under the host's address.
    pub ip_masq: Option<bool>,
    /// `ip`: host address of ports that are published without one.
    pub ip: Option<std::net::IpAddr>,
    /// `default-address-pools`: where networks without a subnet get one.
    #[serde(skip_serializing)]
    pub default_address_pools: Vec<AddressPool>,
    /// `default-network-opts`: options by driver.
    #[serde(skip_serializing)]
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
}

/// One of `default-address-pools`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AddressPool {
    /// The whole.
    pub base: Subnet,
    /// Length of the prefix of each part.
    pub size: u8,
}

/// A limit as Docker's file has it; the name is its key.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DefaultUlimit {
    soft: i64,
    hard: Option<i64>,
}

/// Bytes, as a number or in Docker's units.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
struct Size(Option<i64>);

impl TryFrom<Value> for Size {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let bytes = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => parse_size(text),
            _ => None,
        };
        let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
        bytes.map(|bytes| Self(Some(bytes))).ok_or_else(|| format!("{value} is no size as 64M"))
    }
}

impl Defaults {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// Where a value is of the wrong kind or makes no sense.
    pub fn read(document: &Map<String, Value>) -> Result<Self, RegistriesError> {
        let defaults = parsed::<Self>(document)?;
        defaults.container.check()?;
        defaults.network.check()?;
        const LEVELS: [&str; 6] = ["", "debug", "info", "warn", "error", "fatal"];
        if !LEVELS.contains(&defaults.log_level.as_str()) {
            return Err(wrong("log-level", "it is debug, info, warn, error or fatal"));
        }
        for label in &defaults.labels {
            if !label.contains('=') {
                return Err(wrong("labels", &format!("bad attribute format: {label}")));
            }
        }
        Ok(defaults)
    }

    /// What the log of the engine tells: a filter.
    pub fn log_filter(&self) -> &str {
        match self.log_level.as_str() {
            _ if self.debug => "debug",
            "" => "info",
            "fatal" => "error",
            level => level,
        }
    }
}

fn wrong(key: &str, reason: &str) -> RegistriesError {
    RegistriesError::Value { key: key.to_owned(), reason: reason.to_owned() }
}

impl ContainerDefaults {
    /// Tried on an empty container: what it would be refused for is said at the start of the engine.
    fn check(&self) -> Result<(), RegistriesError> {
        let (mut config, mut host_config) = (Config::default(), HostConfig::default());
        config.cmd = Some(vec!["true".into()]);
        self.fill(&mut config, &mut host_config);
        let host = Host::read();
        let id = "0".repeat(64);
        crate::container::settings::fill_defaults(&mut config, &mut host_config, &id, &host);
        crate::container::settings::check(&config, &host_config, &host)
            .map_err(|error| wrong("(of containers)", &error.to_string()))?;
        for server in &self.dns {
            if server.parse::<std::net::IpAddr>().is_err() {
                return Err(wrong("dns", &format!("{server} is not an ip address")));
            }
        }
        let path = self.seccomp_profile.as_str();
        if !matches!(path, "" | "builtin" | "unconfined") && std::fs::read_to_string(path).is_err() {
            return Err(wrong("seccomp-profile", &format!("cannot read {path}")));
        }
        Ok(())
    }

    /// Fills in what a new container leaves open.
    pub fn fill(&self, config: &mut Config, host_config: &mut HostConfig) {
        self.fill_log(host_config);
        self.fill_lists(host_config);
        let fill = |mine: &mut String, default: &String| {
            if mine.is_empty() {
                mine.clone_from(default);
            }
        };
        fill(&mut host_config.cgroup_parent, &self.cgroup_parent);
        fill(&mut host_config.ipc_mode, &self.default_ipc_mode);
        if !host_config.privileged {
            fill(&mut host_config.cgroupns_mode, &self.default_cgroupns_mode);
        }
        if host_config.shm_size == 0 {
            host_config.shm_size = self.default_shm_size.0.unwrap_or(0);
        }
        host_config.init = host_config.init.or(self.init);
        config.stop_timeout = config.stop_timeout.or(self.default_stop_timeout);
        self.fill_security(host_config);
    }

    /// Options of the default driver go with it, and with a container that names the same one.
    fn fill_log(&self, host_config: &mut HostConfig) {
        let log = &mut host_config.log_config;
        let default = if self.log_driver.is_empty() { "json-file" } else { &self.log_driver };
        if log.kind.is_empty() {
            log.kind = default.to_owned();
        }
        if log.kind == default {
            for (name, value) in &self.log_opts {
                log.config.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// Name servers and limits, which steps of builds get too.
    pub fn fill_lists(&self, host_config: &mut HostConfig) {
        let lists = [
            (&mut host_config.dns, &self.dns),
            (&mut host_config.dns_search, &self.dns_search),
            (&mut host_config.dns_options, &self.dns_opts),
        ];
        for (mine, default) in lists {
            if mine.as_ref().is_none_or(Vec::is_empty) && !default.is_empty() {
                *mine = Some(default.clone());
            }
        }
        for (name, limit) in &self.default_ulimits {
            let mine = host_config.ulimits.get_or_insert_default();
            if !mine.iter().any(|one| one.name == *name) {
                let hard = limit.hard.unwrap_or(limit.soft);
                mine.push(Ulimit { name: name.clone(), soft: limit.soft, hard });
            }
        }
    }

    fn fill_security(&self, host_config: &mut HostConfig) {
        let asked = |host_config: &HostConfig, word: &str| {
            host_config.security_opt.iter().flatten().any(|option| option.starts_with(word))
        };
        if self.no_new_privileges && !asked(host_config, "no-new-privileges") {
            host_config.security_opt.get_or_insert_default().push("no-new-privileges".into());
        }
        let profile = match self.seccomp_profile.as_str() {
            "" | "builtin" => return,
            "unconfined" => "unconfined".to_owned(),
            path => std::fs::read_to_string(path).unwrap_or_default(),
        };
        if !profile.is_empty() && !host_config.privileged && !asked(host_config, "seccomp") {
            host_config.security_opt.get_or_insert_default().push(format!("seccomp={profile}"));
        }
    }
}

impl NetworkDefaults {
    fn check(&self) -> Result<(), RegistriesError> {
        for pool in &self.default_address_pools {
            let bits = if pool.base.is_ipv6() { 128 } else { 32 };
            if pool.size < pool.base.prefix() || pool.size >= bits {
                let text = format!("invalid pool size {} for the base {}", pool.size, pool.base);
                return Err(wrong("default-address-pools", &text));
            }
        }
        for (key, text) in [("bip", &self.bip), ("fixed-cidr", &self.fixed_cidr)] {
            if !text.is_empty() && text.parse::<Subnet>().is_err() {
                return Err(wrong(key, &format!("invalid CIDR address: {text}")));
            }
        }
        for driver in self.default_network_opts.keys() {
            if !matches!(driver.as_str(), "bridge" | "macvlan" | "ipvlan") {
                return Err(wrong("default-network-opts", &format!("there is no driver {driver}")));
            }
        }
        Ok(())
    }

    /// The parts that networks get.
    pub fn pools(&self) -> Vec<(Subnet, u8)> {
        let ipv4 = self.default_address_pools.iter().filter(|pool| !pool.base.is_ipv6());
        ipv4.map(|pool| (pool.base, pool.size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Defaults, String> {
        let document: Map<String, Value> = serde_json::from_str(text).unwrap();
        Defaults::read(&document).map_err(|error| error.to_string())
    }

    #[test]
    fn gaps_are_filled_and_nothing_else() {
        let defaults = read(
            r#"{"log-driver": "local", "log-opts": {"max-size": "1m"}, "dns": ["9.9.9.9"], "init": true,
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}}, "default-shm-size": "8M",
            "default-ipc-mode": "shareable", "no-new-privileges": true}"#,
        )
        .unwrap();
        let (mut config, mut host_config) = (Config::default(), HostConfig::default());
        defaults.container.fill(&mut config, &mut host_config);
        assert_eq!(host_config.log_config.kind, "local");
        assert_eq!(host_config.log_config.config["max-size"], "1m");
        assert_eq!((host_config.shm_size, host_config.init), (8 << 20, Some(true)));
        assert_eq!(host_config.ulimits.unwrap()[0].hard, 20);
        assert_eq!(host_config.dns.unwrap(), ["9.9.9.9"]);
        assert_eq!(host_config.security_opt.unwrap(), ["no-new-privileges"]);

        let mut own =
            HostConfig { init: Some(false), dns: Some(vec!["1.1.1.1".into()]), ..Default::default() };
        own.log_config.kind = "json-file".into();
        defaults.container.fill(&mut config, &mut own);
        assert!(own.log_config.config.is_empty());
        assert_eq!((own.init, own.dns.unwrap().len()), (Some(false), 1));
    }

    #[test]
    fn wrong_values_are_named() {
        for (text, wanted) in [
            (r#"{"log-driver": 5}"#, "`log-driver`"),
            (r#"{"log-driver": "smoke"}"#, "no log driver named 'smoke'"),
            (r#"{"log-opts": {"max-size": 5}}"#, "`log-opts`"),
            (r#"{"dns": ["example"]}"#, "example is not an ip address"),
            (r#"{"bip": "10.0.0"}"#, "`bip`"),
            (r#"{"default-shm-size": "lots"}"#, "no size"),
            (r#"{"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}"#, "invalid pool size"),
            (r#"{"labels": ["x"]}"#, "bad attribute format: x"),
            (r#"{"log-level": "loud"}"#, "`log-level`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(read("{}").unwrap() == Defaults::default());
    }
}
