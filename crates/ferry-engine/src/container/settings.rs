//! What a new container is: the request checked, the image's defaults and Docker's filled in. Pure.

use std::collections::BTreeMap;

use ferry_api::container::{Config, Empty, HealthConfig, HostConfig};
use ferry_oci::image;

use super::forward;
use crate::host::Host;
use crate::spec::namespaces::{self, InvalidMode};
use crate::spec::resources::{self, ResourceError};
use crate::spec::security::{self, Security, SecurityError};

/// Size of `/dev/shm` when nothing is said.
const DEFAULT_SHM: i64 = 64 * 1024 * 1024;
/// Shortest probe interval: below it probing costs more than the service.
const MIN_PROBE_NANOS: i64 = 1_000_000;
/// Names under which the built-in runtime is known.
const RUNTIMES: [&str; 4] = ["", "ferry", "runc", "io.containerd.runc.v2"];
/// Options of the json-file driver.
const JSON_FILE_OPTIONS: &[&str] = &[
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

/// A request that cannot be granted; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Neither the request nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// An entry like `=x`.
    #[error("invalid environment variable: {0}")]
    Environment(String),
    /// Not absolute.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    WorkingDirectory(String),
    /// Neither a name nor a number.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// Unknown word.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', 'on-unhealthy', or 'unless-stopped'"
    )]
    RestartPolicy(String),
    /// A count with a policy that does not count.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    RetryCount,
    /// Below zero.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    NegativeRetryCount,
    /// Both at once.
    #[error("can't create 'AutoRemove' container with restart policy")]
    AutoRemoveWithRestart,
    /// A duration that is too short.
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    ProbeDuration(&'static str),
    /// Below zero.
    #[error("Retries in Healthcheck cannot be negative")]
    ProbeRetries,
    /// A first word nobody knows.
    #[error("Unknown type {0:?} in Healthcheck (try 'CMD')")]
    ProbeKind(String),
    /// A probe over the network that leads nowhere.
    #[error(
        "health probe {0:?}: want [ADDRESS:]PORT for TCP, PORT[/PATH] or http://ADDRESS[:PORT][/PATH] for HTTP, where ADDRESS is an IP address or localhost, seen from within the container"
    )]
    ProbePlace(String),
    /// A receiver of lines that cannot be used.
    #[error("log driver {driver}: {reason}")]
    LogTarget {
        /// Which driver.
        driver: String,
        /// Why not.
        reason: String,
    },
    /// No such driver.
    #[error("logger: no log driver named '{0}' is registered")]
    LogDriver(String),
    /// No such option.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    LogOption {
        /// As given.
        option: String,
        /// As given.
        driver: String,
    },
    /// A value that does not parse.
    #[error("invalid value for {option}: {value:?}")]
    LogValue {
        /// The option.
        option: &'static str,
        /// As given.
        value: String,
    },
    /// No such runtime.
    #[error("unknown or invalid runtime name: {0}")]
    Runtime(String),
    /// A kernel setting that would change the host's.
    #[error("sysctl \"{0}\" is not in a separate kernel namespace")]
    Sysctl(String),
    /// A host name the kernel refuses.
    #[error("invalid hostname {0:?}: longer than 64 bytes")]
    Hostname(String),
    /// `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`.
    #[error(transparent)]
    Mode(#[from] InvalidMode),
    /// Limits.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// `--security-opt`, `--cap-add`, `--cap-drop`.
    #[error(transparent)]
    Security(#[from] SecurityError),
}

/// Fills in what the image says and the request leaves open.
pub fn merge_image(config: &mut Config, image: &image::ContainerConfig) {
    let fill = |mine: &mut String, theirs: &str| {
        if mine.is_empty() {
            theirs.clone_into(mine);
        }
    };
    fill(&mut config.user, &image.user);
    fill(&mut config.working_dir, &image.working_dir);
    fill(&mut config.stop_signal, image.stop_signal.as_deref().unwrap_or(""));
    merge_command(config, image);
    merge_environment(config, &image.env);
    merge_set(&mut config.exposed_ports, image.exposed_ports.keys());
    merge_set(&mut config.volumes, image.volumes.keys());
    let labels = config.labels.get_or_insert_default();
    for (key, value) in image.labels.iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    merge_health(config, image.healthcheck.as_ref());
}

/// An entrypoint of one's own drops the image's command; `--entrypoint ""` drops its entrypoint.
fn merge_command(config: &mut Config, image: &image::ContainerConfig) {
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
}

fn merge_environment(config: &mut Config, image: &[String]) {
    let own = config.env.take().unwrap_or_default();
    let name = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    let names: Vec<String> = own.iter().map(|entry| name(entry)).collect();
    let inherited = image.iter().filter(|entry| !names.contains(&name(entry))).cloned();
    let merged: Vec<String> = own.iter().cloned().chain(inherited).collect();
    config.env = Some(merged);
}

fn merge_set<'a>(mine: &mut Option<BTreeMap<String, Empty>>, theirs: impl Iterator<Item = &'a String>) {
    for key in theirs {
        mine.get_or_insert_default().entry(key.clone()).or_default();
    }
}

fn merge_health(config: &mut Config, image: Option<&image::HealthConfig>) {
    let Some(image) = image else { return };
    let mine = config.healthcheck.get_or_insert_default();
    if mine.test.as_ref().is_none_or(Vec::is_empty) {
        mine.test = (!image.test.is_empty()).then(|| image.test.clone());
    }
    let fill = |mine: &mut i64, theirs: i64| {
        if *mine == 0 {
            *mine = theirs;
        }
    };
    fill(&mut mine.interval, image.interval);
    fill(&mut mine.timeout, image.timeout);
    fill(&mut mine.start_period, image.start_period);
    fill(&mut mine.start_interval, image.start_interval);
    fill(&mut mine.retries, image.retries);
}

/// Fills in Docker's defaults for this container on this host.
pub fn fill_defaults(config: &mut Config, host_config: &mut HostConfig, id: &str, host: &Host) {
    let shares_name = host_config.uts_mode == "host" || host_config.network_mode == "host";
    if config.hostname.is_empty() {
        config.hostname = if shares_name { host.name.clone() } else { id[..12].to_owned() };
    }
    let fill = |value: &mut String, default: &str| {
        if value.is_empty() {
            default.clone_into(value);
        }
    };
    fill(&mut host_config.log_config.kind, "json-file");
    fill(&mut host_config.ipc_mode, "private");
    fill(&mut host_config.cgroupns_mode, if host.cgroups.unified { "private" } else { "host" });
    fill(&mut host_config.restart_policy.name, "no");
    fill(&mut host_config.runtime, "ferry");
    if matches!(host_config.network_mode.as_str(), "" | "default") {
        host_config.network_mode = "bridge".into();
    }
    if host_config.shm_size == 0 {
        host_config.shm_size = DEFAULT_SHM;
    }
    if host_config.privileged {
        host_config.masked_paths.get_or_insert_default();
        host_config.readonly_paths.get_or_insert_default();
    }
    host_config.masked_paths.get_or_insert_with(|| security::default_masked(host.processors_configured));
    host_config.readonly_paths.get_or_insert_with(security::default_readonly);
}

/// Refuses what cannot be; tells what this host will not do about the rest.
pub fn check(config: &Config, host_config: &HostConfig, host: &Host) -> Result<Vec<String>, SettingsError> {
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(SettingsError::NoCommand);
    }
    check_config(config)?;
    check_restart(host_config)?;
    check_log(host_config)?;
    if let Some(health) = &config.healthcheck {
        check_health(health)?;
    }
    if !RUNTIMES.contains(&host_config.runtime.as_str()) {
        return Err(SettingsError::Runtime(host_config.runtime.clone()));
    }
    namespaces::pid_mode(&host_config.pid_mode)?;
    namespaces::ipc_mode(&host_config.ipc_mode)?;
    namespaces::uts_mode(&host_config.uts_mode)?;
    namespaces::cgroup_mode(&host_config.cgroupns_mode)?;
    namespaces::user_mode(&host_config.userns_mode)?;
    check_sysctls(host_config)?;
    Security::parse(host_config.security_opt.as_deref().unwrap_or_default())?;
    let add = host_config.cap_add.as_deref().unwrap_or_default();
    let drop = host_config.cap_drop.as_deref().unwrap_or_default();
    security::capabilities(add, drop, host_config.privileged, host.capabilities)?;
    let mut warnings = resources::check(host_config, host)?;
    warnings.extend(missing_privilege(host_config, host));
    Ok(warnings)
}

/// What only a holder of CAP_SYS_RESOURCE can grant, where the engine is none: the kernel keeps its own values.
fn missing_privilege(host_config: &HostConfig, host: &Host) -> Vec<String> {
    const SYS_RESOURCE: u64 = 1 << 24;
    let mut warnings = Vec::new();
    if host.capabilities & SYS_RESOURCE != 0 {
        return warnings;
    }
    if host_config.oom_score_adj < 0 {
        warnings.push(format!(
            "The engine has no CAP_SYS_RESOURCE: the OOM score adjustment {} cannot be set, and stays as it is.",
            host_config.oom_score_adj
        ));
    }
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    for limit in host_config.ulimits.iter().flatten().filter(|limit| limit.name == "nofile") {
        let asked = u64::try_from(limit.hard).unwrap_or(u64::MAX);
        if let Some(most) = open_files.filter(|most| *most < asked) {
            warnings.push(format!(
                "The engine has no CAP_SYS_RESOURCE: the limit nofile={} is lowered to {most}, its own.",
                limit.hard
            ));
        }
    }
    warnings
}

fn check_config(config: &Config) -> Result<(), SettingsError> {
    const HOSTNAME_MAX: usize = 64;
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(SettingsError::Environment(entry.clone()));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(SettingsError::WorkingDirectory(config.working_dir.clone()));
    }
    if !config.stop_signal.is_empty() && super::signal::parse(&config.stop_signal).is_none() {
        return Err(SettingsError::Signal(config.stop_signal.clone()));
    }
    if config.hostname.len() > HOSTNAME_MAX {
        return Err(SettingsError::Hostname(config.hostname.clone()));
    }
    Ok(())
}

/// Checks the restart policy alone; an update has nothing else.
pub fn check_restart(host_config: &HostConfig) -> Result<(), SettingsError> {
    let policy = &host_config.restart_policy;
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return Err(if policy.maximum_retry_count < 0 {
                SettingsError::NegativeRetryCount
            } else {
                SettingsError::RetryCount
            });
        }
        "" | "no" | "always" | "unless-stopped" => {}
        "on-failure" | "on-unhealthy" if policy.maximum_retry_count < 0 => {
            return Err(SettingsError::NegativeRetryCount);
        }
        "on-failure" | "on-unhealthy" => {}
        other => return Err(SettingsError::RestartPolicy(other.to_owned())),
    }
    if host_config.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return Err(SettingsError::AutoRemoveWithRestart);
    }
    Ok(())
}

fn check_log(host_config: &HostConfig) -> Result<(), SettingsError> {
    let (driver, options) = (&host_config.log_config.kind, &host_config.log_config.config);
    let known = match driver.as_str() {
        "json-file" => JSON_FILE_OPTIONS,
        "local" => JSON_FILE_OPTIONS,
        "none" => &[],
        _ => match forward::DRIVERS.iter().find(|(name, _)| name == driver) {
            Some((_, own)) => own,
            None => return Err(SettingsError::LogDriver(driver.clone())),
        },
    };
    let forwards = forward::DRIVERS.iter().any(|(name, _)| name == driver);
    let is_known = |option: &str| known.contains(&option) || forwards && JSON_FILE_OPTIONS.contains(&option);
    if let Some(option) = options.keys().find(|option| !is_known(option)) {
        return Err(SettingsError::LogOption { option: option.clone(), driver: driver.clone() });
    }
    if forwards {
        forward::check(driver, options)
            .map_err(|reason| SettingsError::LogTarget { driver: driver.clone(), reason })?;
    }
    super::logging::config(host_config, "/".as_ref(), &BTreeMap::new()).map(|_| ())
}

fn check_health(health: &HealthConfig) -> Result<(), SettingsError> {
    let short = |value: i64| value != 0 && value < MIN_PROBE_NANOS;
    for (value, name) in [
        (health.interval, "Interval"),
        (health.timeout, "Timeout"),
        (health.start_period, "StartPeriod"),
        (health.start_interval, "StartInterval"),
    ] {
        if short(value) {
            return Err(SettingsError::ProbeDuration(name));
        }
    }
    if health.retries < 0 {
        return Err(SettingsError::ProbeRetries);
    }
    match health.test.as_deref().and_then(<[String]>::first).map(String::as_str) {
        None | Some("" | "NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(kind @ ("HTTP" | "TCP")) => {
            let place = health.test.as_deref().and_then(|test| test.get(1)).map_or("", String::as_str);
            match super::probe::Request::parse(kind, place) {
                Some(_) => Ok(()),
                None => Err(SettingsError::ProbePlace(place.to_owned())),
            }
        }
        Some(other) => Err(SettingsError::ProbeKind(other.to_owned())),
    }
}

/// Kernel settings that belong to a namespace the container has for itself.
fn check_sysctls(host_config: &HostConfig) -> Result<(), SettingsError> {
    for key in host_config.sysctls.keys() {
        let own_network = host_config.network_mode != "host";
        let own_ipc = host_config.ipc_mode != "host";
        let fine = match key.as_str() {
            key if key.starts_with("net.") => own_network,
            key if key.starts_with("fs.mqueue.") || ferry_runtime::IPC_SYSCTLS.contains(&key) => own_ipc,
            "kernel.domainname" => host_config.uts_mode != "host",
            _ => false,
        };
        if !fine {
            return Err(SettingsError::Sysctl(key.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ferry_api::container::RestartPolicy;

    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn image() -> image::ContainerConfig {
        image::ContainerConfig {
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            env: vec!["A=image".into(), "B=image".into()],
            user: "web".into(),
            ..image::ContainerConfig::default()
        }
    }

    #[test]
    fn commands_merge_as_in_docker() {
        for (entrypoint, cmd, expected) in [
            (None, None, vec!["/entry", "serve"]),
            (None, list(&["sh"]), vec!["/entry", "sh"]),
            (list(&["/mine"]), None, vec!["/mine"]),
            (list(&["/mine"]), list(&["x"]), vec!["/mine", "x"]),
            (list(&[""]), list(&["sh"]), vec!["sh"]),
            (list(&[]), None, vec!["serve"]),
        ] {
            let mut config = Config { entrypoint, cmd, ..Config::default() };
            merge_image(&mut config, &image());
            let argv: Vec<_> =
                config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).collect();
            assert_eq!(argv, expected);
        }
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let mut config = Config { env: list(&["A=mine"]), ..Config::default() };
        merge_image(&mut config, &image());
        assert_eq!(config.env, list(&["A=mine", "B=image"]));
        assert_eq!(config.user, "web");
    }

    fn refuse(config: Config, host_config: HostConfig, message: &str) {
        let mut host_config = host_config;
        let mut config = Config { cmd: config.cmd.clone().or_else(|| list(&["x"])), ..config };
        fill_defaults(&mut config, &mut host_config, &"a".repeat(64), &Host::default());
        let error = check(&config, &host_config, &Host::default()).expect_err(message);
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        let config = Config::default;
        let host = HostConfig::default;
        refuse(Config { cmd: list(&[]), ..config() }, host(), "no command specified");
        refuse(Config { env: list(&["=x"]), ..config() }, host(), "invalid environment variable: =x");
        refuse(
            Config { working_dir: "tmp".into(), ..config() },
            host(),
            "the working directory 'tmp' is invalid, it needs to be an absolute path",
        );
        refuse(Config { stop_signal: "SIGX".into(), ..config() }, host(), "invalid signal: SIGX");
        let restart = |name: &str, count| RestartPolicy { name: name.into(), maximum_retry_count: count };
        refuse(
            config(),
            HostConfig { restart_policy: restart("sometimes", 0), ..host() },
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', 'on-unhealthy', or 'unless-stopped'",
        );
        refuse(
            config(),
            HostConfig { restart_policy: restart("always", 0), auto_remove: true, ..host() },
            "can't create 'AutoRemove' container with restart policy",
        );
        let sysctls = BTreeMap::from([("kernel.panic".to_owned(), "1".to_owned())]);
        refuse(
            config(),
            HostConfig { sysctls, ..host() },
            "sysctl \"kernel.panic\" is not in a separate kernel namespace",
        );
        let log = |kind: &str, option: &str, value: &str| ferry_api::container::LogConfig {
            kind: kind.into(),
            config: BTreeMap::from([(option.to_owned(), value.to_owned())]),
        };
        refuse(
            config(),
            HostConfig { log_config: log("json-file", "max-sise", "1"), ..host() },
            "unknown log opt 'max-sise' for json-file log driver",
        );
        refuse(
            config(),
            HostConfig { log_config: log("splunk", "tag", "1"), ..host() },
            "logger: no log driver named 'splunk' is registered",
        );
        refuse(
            config(),
            HostConfig { log_config: log("json-file", "max-size", "big"), ..host() },
            "invalid value for max-size: \"big\"",
        );
    }
}
