//! What a build is asked for, beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ferry_oci::image::ImageConfig;
use ferry_oci::{Digest, Platform};

use crate::llb::ops::{HostIp, NetMode, Ulimit};

/// Build arguments that need no ARG and stay out of history and cache keys.
pub const PREDEFINED_ARGS: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Build arguments that the builder itself reads.
const BUILTIN_ARGS: [&str; 10] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_DOCKERFILE_CHECK",
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
];

/// Whether a build argument is one that needs no declaration.
pub fn is_builtin_arg(name: &str) -> bool {
    BUILTIN_ARGS.contains(&name) || PREDEFINED_ARGS.contains(&name.to_ascii_lowercase().as_str())
}

/// What a build is asked for.
#[derive(Debug, Clone)]
pub struct LowerOptions {
    /// `--build-arg`; a name without a value is mentioned but unset.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--target`
    pub target: Option<String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--platform`, the platform of the result.
    pub platform: Platform,
    /// The platform that builds.
    pub build_platform: Platform,
    /// `--no-cache` and `--no-cache-filter`
    pub no_cache: NoCache,
    /// `--build-context`
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--network`
    pub network: NetMode,
    /// `--add-host`
    pub extra_hosts: Vec<HostIp>,
    /// `--allow network.host`
    pub allow_host_network: bool,
    /// `--allow security.insecure`
    pub allow_insecure: bool,
    /// Limits that are no part of cache keys.
    pub resources: Resources,
    /// `SOURCE_DATE_EPOCH` of the caller's environment.
    pub source_date_epoch: Option<i64>,
}

impl LowerOptions {
    /// Sets the platform that is built for, as it is written: `linux/arm64`.
    pub fn set_platform(&mut self, text: &str) -> Result<(), String> {
        self.platform =
            Platform::parse(text).map_err(|error| format!("invalid platform {text:?}: {error}"))?;
        Ok(())
    }
}

impl Default for LowerOptions {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            platform: Platform::host(),
            build_platform: Platform::host(),
            no_cache: NoCache::default(),
            named_contexts: BTreeMap::new(),
            network: NetMode::Unset,
            extra_hosts: Vec::new(),
            allow_host_network: false,
            allow_insecure: false,
            resources: Resources::default(),
            source_date_epoch: None,
        }
    }
}

/// Limits of RUN steps. The same command under other limits makes the same tree.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// `--memory` in bytes.
    pub memory: Option<i64>,
    /// `--memory-swap` in bytes.
    pub memory_swap: Option<i64>,
    /// `--cpu-shares`
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`
    pub cpuset_mems: Option<String>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<i64>,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
    /// `--network`, where it is a network of the engine's, or a container's.
    pub network: Option<String>,
}

/// Which steps are not looked up in the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// All are looked up.
    #[default]
    None,
    /// None is.
    All,
    /// None of these stages is.
    Stages(BTreeSet<String>),
}

/// What `--build-context name=` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// `docker-image://`
    Image(String),
    /// A folder that the caller opened under this name.
    Folder,
}

/// An image that must be known before the build can go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRequest {
    /// The name as in the Dockerfile, expanded.
    pub name: String,
    /// `os/architecture[/variant]`
    pub platform: String,
}

/// An image that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// The id: digest of the configuration.
    pub id: Digest,
    /// The configuration.
    pub config: ImageConfig,
}

/// Images by request.
pub type ImageMap = HashMap<ImageRequest, ResolvedImage>;
