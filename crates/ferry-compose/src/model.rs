//! The typed model: what the canonical tree holds, as structs.
//!
//! Owns the types and the leniency between numbers and texts; validation has happened before.

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys with text values.
pub type Texts = BTreeMap<String, String>;
/// Keys with text values, or none: taken from the environment, which had none.
pub type OptionalTexts = BTreeMap<String, Option<String>>;

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Service {
    pub annotations: Texts,
    pub attach: Option<bool>,
    pub blkio_config: Option<BlkioConfig>,
    pub build: Option<Build>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cgroup: Option<String>,
    pub cgroup_parent: Option<String>,
    pub command: Option<Vec<String>>,
    pub configs: Vec<FileReference>,
    pub container_name: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub cpu_count: Option<i64>,
    #[serde(deserialize_with = "float")]
    pub cpu_percent: Option<f64>,
    #[serde(deserialize_with = "integer")]
    pub cpu_shares: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub cpu_period: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub cpu_quota: Option<i64>,
    #[serde(deserialize_with = "microseconds")]
    pub cpu_rt_runtime: Option<i64>,
    #[serde(deserialize_with = "microseconds")]
    pub cpu_rt_period: Option<i64>,
    #[serde(deserialize_with = "float")]
    pub cpus: Option<f64>,
    pub cpuset: Option<String>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub deploy: Option<Deploy>,
    pub develop: Option<Develop>,
    pub device_cgroup_rules: Vec<String>,
    pub devices: Vec<Device>,
    pub dns: Vec<String>,
    pub dns_opt: Vec<String>,
    pub dns_search: Vec<String>,
    pub domainname: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: OptionalTexts,
    pub expose: Vec<String>,
    pub external_links: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub gpus: Vec<DeviceRequest>,
    pub group_add: Vec<String>,
    pub healthcheck: Option<Healthcheck>,
    pub hostname: Option<String>,
    pub image: Option<String>,
    pub init: Option<bool>,
    pub ipc: Option<String>,
    pub isolation: Option<String>,
    pub labels: Texts,
    pub links: Vec<String>,
    pub logging: Option<Logging>,
    pub mac_address: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub mem_limit: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub mem_reservation: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub mem_swappiness: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub memswap_limit: Option<i64>,
    pub models: BTreeMap<String, Json>,
    pub network_mode: Option<String>,
    pub networks: BTreeMap<String, Option<Endpoint>>,
    pub oom_kill_disable: Option<bool>,
    #[serde(deserialize_with = "integer")]
    pub oom_score_adj: Option<i64>,
    pub pid: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub pids_limit: Option<i64>,
    pub platform: Option<String>,
    pub ports: Vec<Port>,
    pub post_start: Vec<Hook>,
    pub pre_start: Vec<Hook>,
    pub pre_stop: Vec<Hook>,
    pub privileged: bool,
    pub profiles: Vec<String>,
    pub provider: Option<Provider>,
    pub pull_policy: Option<String>,
    pub read_only: bool,
    pub restart: Option<String>,
    pub runtime: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub scale: Option<i64>,
    pub secrets: Vec<FileReference>,
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "integer")]
    pub shm_size: Option<i64>,
    pub stdin_open: bool,
    #[serde(deserialize_with = "duration")]
    pub stop_grace_period: Option<Duration>,
    pub stop_signal: Option<String>,
    pub storage_opt: BTreeMap<String, Json>,
    pub sysctls: Texts,
    pub tmpfs: Vec<String>,
    pub tty: bool,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub use_api_socket: bool,
    pub user: Option<String>,
    pub userns_mode: Option<String>,
    pub uts: Option<String>,
    pub volumes: Vec<Mount>,
    pub volumes_from: Vec<String>,
    pub working_dir: Option<String>,
}

impl Service {
    /// How many containers are wanted.
    pub fn replicas(&self) -> usize {
        let deploy = self.deploy.as_ref().and_then(|deploy| deploy.replicas);
        self.scale.or(deploy).unwrap_or(1).max(0) as usize
    }

    /// How long a stop waits before it kills.
    pub fn grace_period(&self) -> Option<Duration> {
        self.stop_grace_period
    }
}

/// `depends_on.NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Dependency {
    /// What is waited for.
    pub condition: Condition,
    /// Restart the dependent when the dependency is recreated or restarted.
    #[serde(default)]
    pub restart: bool,
    /// Whether its absence is an error.
    #[serde(default = "yes")]
    pub required: bool,
}

/// What a dependent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Started.
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It exited with 0.
    ServiceCompletedSuccessfully,
}

impl Condition {
    /// The spelling of files and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::ServiceStarted => "service_started",
            Condition::ServiceHealthy => "service_healthy",
            Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
        }
    }
}

/// `build`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Build {
    pub context: String,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub entitlements: Vec<String>,
    pub args: OptionalTexts,
    pub ssh: Texts,
    pub labels: Texts,
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    pub no_cache: bool,
    pub no_cache_filter: Vec<String>,
    pub additional_contexts: Texts,
    pub network: Option<String>,
    pub pull: bool,
    pub target: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub shm_size: Option<i64>,
    pub extra_hosts: Vec<String>,
    pub isolation: Option<String>,
    pub privileged: bool,
    pub provenance: Option<String>,
    pub sbom: Option<String>,
    pub secrets: Vec<FileReference>,
    pub tags: Vec<String>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub platforms: Vec<String>,
}

/// `blkio_config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct BlkioConfig {
    #[serde(deserialize_with = "integer")]
    pub weight: Option<i64>,
    pub weight_device: Vec<BlkioDevice>,
    pub device_read_bps: Vec<BlkioDevice>,
    pub device_write_bps: Vec<BlkioDevice>,
    pub device_read_iops: Vec<BlkioDevice>,
    pub device_write_iops: Vec<BlkioDevice>,
}

/// A limit or weight of one device.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct BlkioDevice {
    pub path: String,
    #[serde(deserialize_with = "integer")]
    pub rate: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub weight: Option<i64>,
}

/// `deploy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Deploy {
    pub mode: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub replicas: Option<i64>,
    pub endpoint_mode: Option<String>,
    pub labels: Texts,
    pub resources: Resources,
    pub restart_policy: Option<RestartPolicy>,
    pub update_config: Option<UpdateConfig>,
    pub rollback_config: Option<UpdateConfig>,
}

/// `deploy.resources`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Resources {
    pub limits: ResourceAmounts,
    pub reservations: ResourceAmounts,
}

/// Limits or reservations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct ResourceAmounts {
    #[serde(deserialize_with = "float")]
    pub cpus: Option<f64>,
    #[serde(deserialize_with = "integer")]
    pub memory: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub pids: Option<i64>,
    pub devices: Vec<DeviceRequest>,
}

/// `deploy.restart_policy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct RestartPolicy {
    pub condition: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub delay: Option<Duration>,
    #[serde(deserialize_with = "integer")]
    pub max_attempts: Option<i64>,
    #[serde(deserialize_with = "duration")]
    pub window: Option<Duration>,
}

/// `deploy.update_config` and `deploy.rollback_config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct UpdateConfig {
    #[serde(deserialize_with = "integer")]
    pub parallelism: Option<i64>,
    #[serde(deserialize_with = "duration")]
    pub delay: Option<Duration>,
    pub failure_action: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub monitor: Option<Duration>,
    #[serde(deserialize_with = "float")]
    pub max_failure_ratio: Option<f64>,
    pub order: Option<String>,
}

/// `develop`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Develop {
    /// Rules of `watch`.
    pub watch: Vec<WatchRule>,
}

/// One rule of `develop.watch`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct WatchRule {
    pub path: String,
    pub action: String,
    pub target: Option<String>,
    pub ignore: Vec<String>,
    pub include: Vec<String>,
    pub initial_sync: bool,
    pub exec: Option<Hook>,
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Device {
    pub source: String,
    pub target: String,
    pub permissions: String,
}

/// A request for GPUs and the like.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct DeviceRequest {
    pub capabilities: Vec<String>,
    #[serde(deserialize_with = "device_count")]
    pub count: Option<i64>,
    pub device_ids: Vec<String>,
    pub driver: Option<String>,
    pub options: Texts,
}

/// `healthcheck`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Healthcheck {
    pub disable: bool,
    pub test: Option<Vec<String>>,
    #[serde(deserialize_with = "duration")]
    pub interval: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub start_period: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub start_interval: Option<Duration>,
    #[serde(deserialize_with = "integer")]
    pub retries: Option<i64>,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Logging {
    pub driver: Option<String>,
    pub options: OptionalTexts,
}

/// A service on a network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Endpoint {
    pub aliases: Vec<String>,
    pub interface_name: Option<String>,
    pub ipv4_address: Option<String>,
    pub ipv6_address: Option<String>,
    pub link_local_ips: Vec<String>,
    pub mac_address: Option<String>,
    pub driver_opts: BTreeMap<String, Json>,
    #[serde(deserialize_with = "integer")]
    pub priority: Option<i64>,
    #[serde(deserialize_with = "integer")]
    pub gw_priority: Option<i64>,
}

/// A published or exposed port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Port {
    pub name: Option<String>,
    pub mode: Option<String>,
    pub host_ip: Option<String>,
    #[serde(deserialize_with = "integer")]
    pub target: Option<i64>,
    pub published: Option<String>,
    pub protocol: Option<String>,
    pub app_protocol: Option<String>,
}

/// A command run before or after a start, or before a stop.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Hook {
    pub command: Vec<String>,
    pub image: Option<String>,
    pub user: Option<String>,
    pub privileged: bool,
    pub working_dir: Option<String>,
    pub environment: OptionalTexts,
    pub per_replica: bool,
}

impl Hook {
    /// Its variables that have a value, as the API takes them.
    pub fn variables(&self) -> Vec<String> {
        let set =
            self.environment.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        set.collect()
    }
}

/// `provider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Provider {
    #[serde(rename = "type")]
    pub kind: String,
    pub options: BTreeMap<String, Json>,
}

/// A config or secret in a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct FileReference {
    pub source: String,
    pub target: Option<String>,
    pub uid: Option<String>,
    pub gid: Option<String>,
    #[serde(deserialize_with = "mode")]
    pub mode: Option<u32>,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// Soft and hard alike.
    Single(#[serde(deserialize_with = "required_integer")] i64),
    /// Both.
    Pair {
        /// The soft limit.
        #[serde(deserialize_with = "required_integer")]
        soft: i64,
        /// The hard limit.
        #[serde(deserialize_with = "required_integer")]
        hard: i64,
    },
}

/// A mount of a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Mount {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    pub consistency: Option<String>,
    pub bind: Option<BindOptions>,
    pub volume: Option<VolumeOptions>,
    pub tmpfs: Option<TmpfsOptions>,
    pub image: Option<ImageOptions>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct BindOptions {
    pub propagation: Option<String>,
    pub create_host_path: Option<bool>,
    pub recursive: Option<String>,
    pub selinux: Option<String>,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct VolumeOptions {
    pub nocopy: bool,
    pub subpath: Option<String>,
    pub labels: Texts,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct TmpfsOptions {
    #[serde(deserialize_with = "integer")]
    pub size: Option<i64>,
    #[serde(deserialize_with = "mode")]
    pub mode: Option<u32>,
}

/// Options of an image mount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct ImageOptions {
    pub subpath: Option<String>,
}

/// A top-level network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Network {
    pub name: String,
    pub driver: Option<String>,
    pub driver_opts: Texts,
    pub ipam: Option<Ipam>,
    pub external: bool,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
    pub labels: Texts,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Ipam {
    pub driver: Option<String>,
    pub config: Vec<IpamPool>,
    pub options: Texts,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct IpamPool {
    pub subnet: Option<String>,
    pub ip_range: Option<String>,
    pub gateway: Option<String>,
    pub aux_addresses: Texts,
}

/// A top-level volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Volume {
    pub name: String,
    pub driver: Option<String>,
    pub driver_opts: Texts,
    pub external: bool,
    pub labels: Texts,
}

/// A top-level config or secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are the attributes of the Compose specification, by name")]
pub struct Config {
    pub name: String,
    pub file: Option<String>,
    pub content: Option<String>,
    pub environment: Option<String>,
    pub external: bool,
    pub labels: Texts,
    pub driver: Option<String>,
}

fn yes() -> bool {
    true
}

fn parse_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    of_number: impl Fn(f64) -> Option<T>,
    of_text: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, D::Error> {
    let found = match Json::deserialize(deserializer)? {
        Json::Null => return Ok(None),
        Json::Number(number) => number.as_f64().and_then(&of_number).ok_or_else(|| number.to_string()),
        Json::String(text) => of_text(text.trim()).ok_or(text),
        other => Err(other.to_string()),
    };
    found.map(Some).map_err(|text| serde::de::Error::custom(format!("\"{text}\" is not a valid value")))
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    parse_text(
        deserializer,
        |number| (number.fract() == 0.0).then_some(number as i64),
        |text| text.parse().ok(),
    )
}

fn required_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    integer(deserializer)?.ok_or_else(|| serde::de::Error::custom("a number is missing"))
}

fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    parse_text(deserializer, Some, |text| text.parse().ok())
}

/// Permission bits: text is octal, a number is what it is.
fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let of_text = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    parse_text(deserializer, |number| Some(number as u32), of_text)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse_text(deserializer, |_| None, |text| crate::units::parse_duration(text).ok())
}

/// Microseconds, as a number or a duration.
fn microseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let of_text = |text: &str| {
        text.parse().ok().or_else(|| crate::units::parse_duration(text).ok().map(|d| d.as_micros() as i64))
    };
    parse_text(deserializer, |number| Some(number as i64), of_text)
}

/// A number of devices; -1 is all of them.
fn device_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    parse_text(
        deserializer,
        |number| Some(number as i64),
        |text| if text == "all" { Some(-1) } else { text.parse().ok() },
    )
}
