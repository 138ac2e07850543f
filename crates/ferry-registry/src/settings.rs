//! What an operator chooses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Rule;
use crate::bucket::BucketSettings;
use crate::pattern::Pattern;
use crate::retention;
use crate::shelf::Shelf;
use crate::upstream::Upstream;
use crate::webhook::Webhook;

/// All settings of a registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub root: PathBuf,
    /// Where it is kept instead, with the root for open uploads and as a cache.
    pub bucket: Option<BucketSettings>,
    /// Who keeps the images instead; what is pushed is handed over there.
    pub shelf: Option<Arc<dyn Shelf>>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// How it encrypts.
    pub tls: Tls,
    /// Who may do what.
    pub access: Access,
    /// Whether manifests, tags and blobs may be deleted.
    pub deletes: bool,
    /// Whether manifests are taken before their blobs, or without them.
    pub sparse: bool,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// How long a blob may be there with nothing that refers to it, as while its image is being pushed.
    pub grace: Duration,
    /// How often garbage is collected.
    pub sweep_interval: Duration,
    /// How long a deleted manifest can be had back.
    pub trash: Duration,
    /// How long an upload may lie still before it is removed.
    pub upload_expiry: Duration,
    /// Uploads that may be open at a time.
    pub max_uploads: usize,
    /// Connections that may be open at a time.
    pub max_connections: usize,
    /// Largest blob.
    pub max_blob: Option<u64>,
    /// Most bytes of blobs in one repository; the first one that fits counts.
    pub quotas: Vec<Quota>,
    /// Requests a second that one client may send.
    pub rate: Option<u32>,
    /// What goes by itself.
    pub retention: Vec<retention::Rule>,
    /// How often it goes.
    pub retention_interval: Duration,
    /// How often all blobs are read again; None for never.
    pub scrub_interval: Option<Duration>,
    /// Registries that damaged blobs are fetched from again, beside the upstreams.
    pub repair_from: Vec<String>,
    /// Who is told of what happens.
    pub webhooks: Vec<Webhook>,
    /// Registries that names are fetched from where they are not here.
    pub upstreams: Vec<Upstream>,
    /// How long a tag that was fetched is taken for right before its upstream is asked again.
    pub upstream_fresh: Duration,
    /// Whether each request is told of on standard output.
    pub access_log: bool,
}

/// A limit to what a repository may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Repositories, each of which may hold so much.
    pub repositories: Pattern,
    /// Bytes of blobs.
    pub size: u64,
}

/// How connections are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// With this certificate chain and key, in PEM.
    Given {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// With a certificate made at the first start, for these names beside the machine's own.
    SelfMade {
        /// Names and addresses that it holds for.
        names: Vec<String>,
    },
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Names and bcrypt hashes; everybody may do everything where there is none.
    pub htpasswd: Option<PathBuf>,
    /// What browsers show when they ask for a password.
    pub realm: String,
    /// Whether everybody may pull.
    pub anonymous_pull: bool,
    /// Who may do what in which repository; those that no rule is about are every user's.
    pub rules: Vec<Rule>,
    /// Who may manage the registry itself; every user where empty.
    pub admins: Vec<String>,
    /// Whether clients are sent to the token endpoint rather than asked for a password each time.
    pub tokens: bool,
}

impl Settings {
    /// The defaults, over this root.
    pub fn new(root: PathBuf, listen: SocketAddr) -> Settings {
        Settings {
            root,
            bucket: None,
            shelf: None,
            listen,
            tls: Tls::Off,
            access: Access { realm: "ferry registry".to_owned(), ..Access::default() },
            deletes: true,
            sparse: false,
            read_only: false,
            grace: Duration::from_secs(60 * 60),
            sweep_interval: Duration::from_secs(60),
            trash: Duration::ZERO,
            upload_expiry: Duration::from_secs(24 * 60 * 60),
            max_uploads: 10_000,
            max_connections: 4096,
            max_blob: None,
            quotas: Vec::new(),
            rate: None,
            retention: Vec::new(),
            retention_interval: Duration::from_secs(60 * 60),
            scrub_interval: None,
            repair_from: Vec::new(),
            webhooks: Vec::new(),
            upstreams: Vec::new(),
            upstream_fresh: Duration::from_secs(60),
            access_log: true,
        }
    }
}
