//! The query of `POST /build` as options of a build.

use std::collections::BTreeMap;

use ferry_api::container::Ulimit as ApiUlimit;
use ferry_build::llb::ops::{HostIp, NetMode, Ulimit};
use ferry_build::lower::{LowerOptions, NoCache, Resources};
use ferry_oci::{Platform, Reference};
use http::StatusCode;

use super::reuse::CacheMode;
use crate::error::{HttpError, HttpStatus};
use crate::server::params::Params;

/// The build argument that stands for `--cache-to type=inline`.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// Modes that are no networks of the engine's.
const MODES: [&str; 5] = ["", "default", "bridge", "host", "none"];

/// Options that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// JSON that does not parse.
    #[error("error reading {name}: {source}")]
    Json {
        /// The parameter.
        name: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A tag that is no name.
    #[error("invalid tag {tag:?}: {reason}")]
    Tag {
        /// As given.
        tag: String,
        /// What is wrong.
        reason: String,
    },
    /// A platform nobody knows.
    #[error("invalid platform {0:?}: {1}")]
    Platform(String, String),
    /// A number.
    #[error("{0}")]
    Number(String),
    /// A host entry.
    #[error("invalid extra host {0:?}: it is not of the form name:address")]
    Host(String),
}

impl HttpStatus for OptionsError {
    fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

/// What a client asks of a build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// For the Dockerfile's meaning.
    pub lower: LowerOptions,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// Only the image's id is printed.
    pub quiet: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// The context's URL.
    pub remote: Option<String>,
    /// The client's name for this build.
    pub build_id: Option<String>,
    /// Images whose cache records are of use.
    pub cache_from: Vec<String>,
    /// Fetch those images anew.
    pub pull_caches: bool,
    /// The image carries its own cache records.
    pub inline_cache: bool,
    /// The image gets one layer above those of its base.
    pub squash: bool,
    /// Make an image of the cache records and their layers.
    pub cache_to: Option<CacheMode>,
}

impl BuildOptions {
    /// Reads the classic API's parameters.
    pub fn from_query(params: &Params) -> Result<Self, OptionsError> {
        let tags = params.all("t").filter(|tag| !tag.is_empty()).map(parse_tag).collect::<Result<_, _>>()?;
        let platform = match params.get("platform") {
            None => Platform::host(),
            Some(text) => Platform::parse(text)
                .map_err(|error| OptionsError::Platform(text.to_owned(), error.to_string()))?,
        };
        let build_args: BTreeMap<String, Option<String>> = json(params, "buildargs")?.unwrap_or_default();
        let labels: Option<BTreeMap<String, String>> = json(params, "labels")?;
        let inline_cache = build_args.get(INLINE_CACHE).is_some_and(|value| value.as_deref() == Some("1"));
        let no_cache = if params.flag("nocache") { NoCache::All } else { NoCache::None };
        let lower = LowerOptions {
            build_args,
            target: params.get("target").map(str::to_owned),
            labels: labels.unwrap_or_default(),
            platform,
            no_cache,
            network: network(params),
            // The classic API has no entitlements: whoever may use the socket may do anything.
            allow_host_network: true,
            allow_insecure: false,
            extra_hosts: hosts(params)?,
            resources: resources(params)?,
            ..LowerOptions::default()
        };
        Ok(Self {
            lower,
            dockerfile: dockerfile(params),
            tags,
            quiet: params.flag("q"),
            pull: params.flag("pull"),
            remote: params.get("remote").map(str::to_owned),
            build_id: params.get("buildid").map(str::to_owned),
            cache_from: json(params, "cachefrom")?.unwrap_or_default(),
            pull_caches: false,
            inline_cache,
            squash: params.flag("squash"),
            cache_to: None,
        })
    }
}

fn dockerfile(params: &Params) -> String {
    let name = params.get("dockerfile").unwrap_or("Dockerfile");
    ferry_build::path::clean(name).trim_start_matches('/').to_owned()
}

fn parse_tag(tag: &str) -> Result<Reference, OptionsError> {
    let refuse = |reason: String| OptionsError::Tag { tag: tag.to_owned(), reason };
    let reference = Reference::parse_normalized(tag).map_err(|error| refuse(error.to_string()))?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => Err(refuse("a tag cannot contain a digest".to_owned())),
    }
}

fn json<T: serde::de::DeserializeOwned>(
    params: &Params,
    name: &'static str,
) -> Result<Option<T>, OptionsError> {
    match params.get(name) {
        None => Ok(None),
        Some(text) => serde_json::from_str(text).map_err(|source| OptionsError::Json { name, source }),
    }
}

fn network(params: &Params) -> NetMode {
    match params.get("networkmode") {
        Some("host") => NetMode::Host,
        Some("none") => NetMode::None,
        // Also one of the engine's networks, which the commands are connected to: see `resources`.
        _ => NetMode::Unset,
    }
}

fn hosts(params: &Params) -> Result<Vec<HostIp>, OptionsError> {
    let entries = params.all("extrahosts").flat_map(|list| list.split(',')).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (host, ip) =
                entry.split_once([':', '=']).ok_or_else(|| OptionsError::Host(entry.to_owned()))?;
            Ok(HostIp { host: host.to_owned(), ip: ip.to_owned() })
        })
        .collect()
}

fn resources(params: &Params) -> Result<Resources, OptionsError> {
    let number = |error: HttpError| OptionsError::Number(error.message);
    let text = |name: &str| params.get(name).map(str::to_owned);
    // Zero means "not set" in Docker's API.
    let signed =
        |name: &str| Ok::<_, OptionsError>(params.number::<i64>(name).map_err(number)?.filter(|n| *n != 0));
    let unsigned =
        |name: &str| Ok::<_, OptionsError>(params.number::<u64>(name).map_err(number)?.filter(|n| *n != 0));
    let limits: Option<Vec<ApiUlimit>> = json(params, "ulimits")?;
    let ulimits = limits.unwrap_or_default().into_iter();
    Ok(Resources {
        memory: signed("memory")?,
        memory_swap: signed("memswap")?,
        cpu_shares: unsigned("cpushares")?,
        cpu_period: unsigned("cpuperiod")?,
        cpu_quota: signed("cpuquota")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        shm_size: signed("shmsize")?,
        ulimits: ulimits
            .map(|limit| Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        cgroup_parent: text("cgroupparent"),
        network: text("networkmode").filter(|name| !MODES.contains(&name.as_str())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read() {
        let query = "t=a&t=b:1&buildargs=%7B%22X%22%3A%221%22%2C%22Y%22%3Anull%7D&nocache=1&target=x&memory=0&cpushares=2\
                     &extrahosts=db:10.0.0.1&dockerfile=./sub/Dockerfile.dev&networkmode=none";
        let options = BuildOptions::from_query(&Params::parse(query)).unwrap();
        assert_eq!(options.tags.iter().map(Reference::familiar).collect::<Vec<_>>(), ["a:latest", "b:1"]);
        assert_eq!(options.lower.build_args["X"].as_deref(), Some("1"));
        assert_eq!(options.lower.build_args["Y"], None);
        assert_eq!(options.lower.no_cache, NoCache::All);
        assert_eq!(options.lower.resources.memory, None);
        assert_eq!(options.lower.resources.cpu_shares, Some(2));
        assert_eq!(options.dockerfile, "sub/Dockerfile.dev");
        assert_eq!(options.lower.network, NetMode::None);
    }

    #[test]
    fn nonsense_is_refused() {
        for query in ["t=A%20b", "buildargs=x", "platform=a/b/c/d", "memory=x", "extrahosts=x"] {
            assert!(BuildOptions::from_query(&Params::parse(query)).is_err(), "{query}");
        }
    }
}
