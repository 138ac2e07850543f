//! `registry serve`: a registry in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as Time;

use ferry_registry::pattern::Pattern;
use ferry_registry::server::ServeError;
use ferry_registry::webhook::Webhook;
use ferry_registry::{BucketSettings, Quota, Settings, Tls, Upstream};

use crate::cli::Command;
use crate::command;
use crate::commands::registry_bucket;
use crate::commands::registry_config::{self, File};
use crate::commands::registry_shelf::Engine;
use crate::failure::{Failure, Outcome};
use crate::flags::{Bytes, Duration};
use crate::session::Session;

/// Where a registry keeps everything unless told otherwise.
const ROOT: &str = "/var/lib/ferry-registry";
/// Where it listens unless told otherwise: who shall be reached from outside says so.
const LISTEN: &str = "127.0.0.1:5000";

crate::flags! {
    /// Flags of `registry serve`.
    pub struct ServeFlags {
        anonymous_pull: Option<bool> = '-' "anonymous-pull" "Let everybody pull; --htpasswd is for the rest";
        cache: Option<bool> = '-' "cache" "Fetch what is not here from Docker Hub and keep it, as --upstream docker.io does";
        config: Option<String> = '-' "config" <file> "Read settings from this JSON file: flags by their names, and upstreams, rules, admins, quotas, retention, webhooks; flags win";
        engine: Option<bool> = '-' "engine" "Serve the engine's images with no second copy; what is pushed becomes an image of the engine";
        gc_grace: Option<Duration> = '-' "gc-grace" <duration> "How long a blob is kept that no manifest refers to, as during a push (default 1h)";
        gc_interval: Option<Duration> = '-' "gc-interval" <duration> "How often garbage is collected (default 1m)";
        htpasswd: Option<String> = '-' "htpasswd" <file> "Users and bcrypt hashes, as 'htpasswd -B' writes them; read again when it changes";
        listen: Option<String> = '-' "listen" <address> "Where to listen, as ADDRESS:PORT or :PORT (default \"127.0.0.1:5000\")";
        max_blob_size: Option<Bytes> = '-' "max-blob-size" <bytes> "Refuse blobs larger than this";
        max_connections: Option<i64> = '-' "max-connections" <int> "Connections at a time; others wait (default 4096)";
        max_uploads: Option<i64> = '-' "max-uploads" <int> "Open uploads at a time (default 10000)";
        no_delete: Option<bool> = '-' "no-delete" "Refuse to delete";
        quiet: Option<bool> = 'q' "quiet" "Do not print each request";
        quota: Option<Bytes> = '-' "quota" <bytes> "Most bytes of blobs in one repository";
        rate_limit: Option<i64> = '-' "rate-limit" <int> "Requests a second that one client may send, with bursts of ten seconds' worth";
        read_only: Option<bool> = '-' "read-only" "Refuse every change";
        realm: Option<String> = '-' "realm" <text> "What is shown where a password is asked for (default \"ferry registry\")";
        repair_from: Vec<String> = '-' "repair-from" <list> "A registry with the same repositories, from which scrub fetches what is damaged";
        retention_interval: Option<Duration> = '-' "retention-interval" <duration> "How often the configuration's retention rules are applied (default 1h)";
        root: Option<String> = '-' "root" <dir> "Where everything is kept (default \"/var/lib/ferry-registry\")";
        s3_bucket: Option<String> = '-' "s3-bucket" <name> "Keep everything in this bucket of an S3-compatible service, which several registries may share; --root is for open uploads and a cache";
        s3_endpoint: Option<String> = '-' "s3-endpoint" <url> "The service's URL (default: $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, or Amazon's for the region)";
        s3_part_size: Option<Bytes> = '-' "s3-part-size" <bytes> "Send larger blobs in parts of this size (default 1GB)";
        s3_prefix: Option<String> = '-' "s3-prefix" <text> "What stands in front of every key in the bucket";
        s3_region: Option<String> = '-' "s3-region" <name> "The bucket's region (default: $AWS_REGION, $AWS_DEFAULT_REGION, or us-east-1)";
        scrub_interval: Option<Duration> = '-' "scrub-interval" <duration> "How often all blobs are read again and mended (default: only when asked)";
        sparse: Option<bool> = '-' "sparse" "Take manifests whose blobs are not here";
        tls_certificate: Option<String> = '-' "tls-certificate" <file> "Serve HTTPS with this certificate chain (PEM)";
        tls_key: Option<String> = '-' "tls-key" <file> "The certificate's key (PEM)";
        tls_name: Vec<String> = '-' "tls-name" <list> "A further name or address for the certificate of --tls-self-signed";
        tls_self_signed: Option<bool> = '-' "tls-self-signed" "Serve HTTPS with a certificate made at the first start: ROOT/tls/ca.crt";
        tokens: Option<bool> = '-' "tokens" "Let clients log in once for a token, instead of sending the password each time";
        trash: Option<Duration> = '-' "trash" <duration> "How long a deleted manifest can be had back (default: not at all)";
        upstream: Vec<String> = '-' "upstream" <list> "Fetch what is not here from this registry and keep it: DOMAIN for every name, PREFIX=DOMAIN for names under PREFIX/";
        upstream_fresh: Option<Duration> = '-' "upstream-fresh" <duration> "How long a fetched tag is right before its upstream is asked again (default 1m)";
        upload_expiry: Option<Duration> = '-' "upload-expiry" <duration> "Remove an upload that nobody has added to for so long (default 24h)";
        webhook: Vec<String> = '-' "webhook" <list> "Tell this URL of pushes, pulls, mounts and deletes, as Docker's registry does";
    }
}

impl ServeFlags {
    /// These flags, and those of `base` where they were not given.
    pub fn over(self, base: ServeFlags) -> ServeFlags {
        ServeFlags {
            anonymous_pull: self.anonymous_pull.or(base.anonymous_pull),
            cache: self.cache.or(base.cache),
            config: self.config.or(base.config),
            engine: self.engine.or(base.engine),
            gc_grace: self.gc_grace.or(base.gc_grace),
            gc_interval: self.gc_interval.or(base.gc_interval),
            htpasswd: self.htpasswd.or(base.htpasswd),
            listen: self.listen.or(base.listen),
            max_blob_size: self.max_blob_size.or(base.max_blob_size),
            max_connections: self.max_connections.or(base.max_connections),
            max_uploads: self.max_uploads.or(base.max_uploads),
            no_delete: self.no_delete.or(base.no_delete),
            quiet: self.quiet.or(base.quiet),
            quota: self.quota.or(base.quota),
            rate_limit: self.rate_limit.or(base.rate_limit),
            read_only: self.read_only.or(base.read_only),
            realm: self.realm.or(base.realm),
            repair_from: if self.repair_from.is_empty() { base.repair_from } else { self.repair_from },
            retention_interval: self.retention_interval.or(base.retention_interval),
            root: self.root.or(base.root),
            s3_bucket: self.s3_bucket.or(base.s3_bucket),
            s3_endpoint: self.s3_endpoint.or(base.s3_endpoint),
            s3_part_size: self.s3_part_size.or(base.s3_part_size),
            s3_prefix: self.s3_prefix.or(base.s3_prefix),
            s3_region: self.s3_region.or(base.s3_region),
            scrub_interval: self.scrub_interval.or(base.scrub_interval),
            sparse: self.sparse.or(base.sparse),
            tls_certificate: self.tls_certificate.or(base.tls_certificate),
            tls_key: self.tls_key.or(base.tls_key),
            tls_name: if self.tls_name.is_empty() { base.tls_name } else { self.tls_name },
            tls_self_signed: self.tls_self_signed.or(base.tls_self_signed),
            tokens: self.tokens.or(base.tokens),
            trash: self.trash.or(base.trash),
            upstream: if self.upstream.is_empty() { base.upstream } else { self.upstream },
            upstream_fresh: self.upstream_fresh.or(base.upstream_fresh),
            upload_expiry: self.upload_expiry.or(base.upload_expiry),
            webhook: if self.webhook.is_empty() { base.webhook } else { self.webhook },
        }
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["registry serve"],
    "[OPTIONS]",
    "Serve a registry of your own: docker, podman, skopeo and ferry push to it and pull from it",
    None,
    ServeFlags,
    serve
)];

/// Runs `registry serve`.
pub async fn serve(session: &Session, flags: ServeFlags, _arguments: Vec<String>) -> Outcome {
    let (flags, file) = match flags.config.clone() {
        Some(path) => registry_config::read(std::path::Path::new(&path), flags)?,
        None => (flags, File::default()),
    };
    let mut settings = settings(&flags)?;
    file.apply(&mut settings)?;
    if flags.engine.unwrap_or_default() {
        check_shelf(&settings)?;
        settings.shelf = Some(Arc::new(Engine::reach(session).await?));
    }
    check(&settings)?;
    run(settings)
}

/// Serves until asked to end. The registry has threads of its own; this one has nothing else to do.
pub fn run(settings: Settings) -> Outcome {
    let served = std::thread::spawn(move || ferry_registry::run(settings)).join();
    match served {
        Ok(Ok(())) => Ok(0),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => Err(Failure::new("the registry ended by a fault of its own")),
    }
}

fn explain(error: &ServeError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        ServeError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            failure.hint("another program listens there; choose another port with --listen")
        }
        ServeError::Open(_) if failure.message.contains("already open") => {
            failure.hint("another registry serves this folder; choose another one with --root")
        }
        _ => failure,
    }
}

/// Refuses settings that do not go together.
fn check(settings: &Settings) -> Result<(), Failure> {
    let access = &settings.access;
    if access.htpasswd.is_none() && (access.anonymous_pull || access.tokens || !access.rules.is_empty()) {
        return Err(Failure::new(
            "--anonymous-pull, --tokens and rules need --htpasswd: without users, everybody may do everything",
        ));
    }
    Ok(())
}

/// What an engine keeps comes from nowhere else, and goes nowhere else.
fn check_shelf(settings: &Settings) -> Result<(), Failure> {
    match settings.bucket.is_some() || !settings.upstreams.is_empty() || !settings.retention.is_empty() {
        true => Err(Failure::new("--engine excludes --s3-bucket, --upstream, --cache and retention")
            .hint("serve those from a registry of its own, at another address")),
        false => Ok(()),
    }
}

/// What the flags mean.
fn settings(flags: &ServeFlags) -> Result<Settings, Failure> {
    let root = PathBuf::from(flags.root.as_deref().unwrap_or(ROOT));
    let mut settings = Settings::new(root, address(flags.listen.as_deref().unwrap_or(LISTEN), "--listen")?);
    settings.tls = tls(flags)?;
    settings.bucket = bucket(flags)?;
    settings.access.htpasswd = flags.htpasswd.as_ref().map(PathBuf::from);
    settings.access.anonymous_pull = flags.anonymous_pull.unwrap_or_default();
    settings.access.tokens = flags.tokens.unwrap_or_default();
    if let Some(realm) = &flags.realm {
        settings.access.realm.clone_from(realm);
    }
    settings.deletes = !flags.no_delete.unwrap_or_default();
    settings.sparse = flags.sparse.unwrap_or_default();
    settings.read_only = flags.read_only.unwrap_or_default();
    settings.access_log = !flags.quiet.unwrap_or_default();
    for (given, setting, name) in [
        (flags.gc_grace, &mut settings.grace, "gc-grace"),
        (flags.gc_interval, &mut settings.sweep_interval, "gc-interval"),
        (flags.retention_interval, &mut settings.retention_interval, "retention-interval"),
        (flags.trash, &mut settings.trash, "trash"),
        (flags.upstream_fresh, &mut settings.upstream_fresh, "upstream-fresh"),
        (flags.upload_expiry, &mut settings.upload_expiry, "upload-expiry"),
    ] {
        if let Some(Duration(nanoseconds)) = given {
            *setting = time(nanoseconds, name)?;
        }
    }
    // A sweep costs a sync of the disk.
    settings.sweep_interval = settings.sweep_interval.max(Time::from_millis(100));
    settings.retention_interval = settings.retention_interval.max(Time::from_millis(100));
    settings.scrub_interval = flags
        .scrub_interval
        .map(|Duration(nanoseconds)| time(nanoseconds, "scrub-interval"))
        .transpose()?
        .map(|interval| interval.max(Time::from_millis(100)));
    settings.repair_from.clone_from(&flags.repair_from);
    settings.webhooks = flags.webhook.iter().map(|url| webhook(url)).collect::<Result<_, _>>()?;
    settings.rate = flags
        .rate_limit
        .map(|number| {
            let number = u32::try_from(number).ok().filter(|number| *number > 0);
            number.ok_or_else(|| Failure::new("--rate-limit must be more than 0"))
        })
        .transpose()?;
    settings.upstreams = flags.upstream.iter().map(|text| upstream(text)).collect::<Result<_, _>>()?;
    if flags.cache.unwrap_or_default() {
        settings.upstreams.push(upstream(HUB)?);
    }
    settings.max_blob = bytes(flags.max_blob_size, "max-blob-size")?;
    let quota = bytes(flags.quota, "quota")?;
    settings.quotas = quota.map(|size| Quota { repositories: Pattern::new("*"), size }).into_iter().collect();
    for (given, setting, name) in [
        (flags.max_connections, &mut settings.max_connections, "max-connections"),
        (flags.max_uploads, &mut settings.max_uploads, "max-uploads"),
    ] {
        if let Some(number) = given {
            let number = usize::try_from(number).ok().filter(|number| *number > 0);
            *setting = number.ok_or_else(|| Failure::new(format!("--{name} must be more than 0")))?;
        }
    }
    Ok(settings)
}

/// The bucket that the flags name.
fn bucket(flags: &ServeFlags) -> Result<Option<BucketSettings>, Failure> {
    let Some(name) = flags.s3_bucket.clone() else {
        let others = [&flags.s3_endpoint, &flags.s3_prefix, &flags.s3_region];
        let lonely = others.iter().any(|other| other.is_some()) || flags.s3_part_size.is_some();
        return if lonely { Err(Failure::new("the --s3 flags need --s3-bucket")) } else { Ok(None) };
    };
    let mut found = registry_bucket::settings(registry_bucket::Named {
        bucket: name,
        endpoint: flags.s3_endpoint.clone(),
        region: flags.s3_region.clone(),
        prefix: flags.s3_prefix.clone().unwrap_or_default(),
        ..Default::default()
    })?;
    if let Some(size) = bytes(flags.s3_part_size, "s3-part-size")? {
        found.part_size = size;
    }
    Ok(Some(found))
}

fn time(nanoseconds: i64, name: &str) -> Result<Time, Failure> {
    u64::try_from(nanoseconds)
        .map(Time::from_nanos)
        .map_err(|_| Failure::new(format!("--{name} cannot be negative")))
}

/// Somebody who is told of everything.
pub fn webhook(url: &str) -> Result<Webhook, Failure> {
    let refuse = || Failure::new(format!("the webhook {url:?} is no http:// or https:// URL"));
    Webhook::new(url).ok_or_else(refuse)
}

/// Where names come from unless another upstream is named.
const HUB: &str = "docker.io";

/// Reads `DOMAIN` or `PREFIX=DOMAIN`; a domain with `http://` in front needs no TLS.
pub fn upstream(text: &str) -> Result<Upstream, Failure> {
    let (prefix, place) = text.split_once('=').unwrap_or(("", text));
    let (insecure, domain) = match (place.strip_prefix("http://"), place.strip_prefix("https://")) {
        (Some(rest), _) => (true, rest),
        (None, rest) => (false, rest.unwrap_or(place)),
    };
    let domain = match domain.trim_end_matches('/') {
        // Docker Hub is known by many names, and its images by one.
        "registry-1.docker.io" | "index.docker.io" | "registry.hub.docker.com" | "hub.docker.com" => HUB,
        domain => domain,
    };
    let is_prefix = prefix.is_empty() || ferry_registry::name::Name::parse(prefix).is_some();
    let is_domain = !domain.is_empty() && !domain.contains(['/', '@']);
    match is_prefix && is_domain {
        true => Ok(Upstream { prefix: prefix.to_owned(), domain: domain.to_owned(), insecure, login: None }),
        false => Err(Failure::new(format!("--upstream {text:?} is neither DOMAIN nor PREFIX=DOMAIN"))
            .hint("for example docker.io, or ghcr=ghcr.io for names under ghcr/")),
    }
}

fn bytes(given: Option<Bytes>, name: &str) -> Result<Option<u64>, Failure> {
    given
        .map(|Bytes(number)| {
            u64::try_from(number).map_err(|_| Failure::new(format!("--{name} cannot be negative")))
        })
        .transpose()
}

/// Reads `ADDRESS:PORT` or `:PORT`.
pub fn address(text: &str, place: &str) -> Result<SocketAddr, Failure> {
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    whole.parse().map_err(|_| {
        Failure::new(format!("{place} {text:?} is not ADDRESS:PORT"))
            .hint("for example 127.0.0.1:5000, or :5000 for every address")
    })
}

fn tls(flags: &ServeFlags) -> Result<Tls, Failure> {
    let names = flags.tls_name.clone();
    match (&flags.tls_certificate, &flags.tls_key, flags.tls_self_signed.unwrap_or_default()) {
        (None, None, true) => Ok(Tls::SelfMade { names }),
        (None, None, false) if names.is_empty() => Ok(Tls::Off),
        (None, None, false) => Err(Failure::new("--tls-name needs --tls-self-signed")),
        (Some(certificate), Some(key), false) => {
            Ok(Tls::Given { certificate: certificate.into(), key: key.into() })
        }
        (Some(_), Some(_), true) => {
            Err(Failure::new("--tls-self-signed and --tls-certificate exclude each other"))
        }
        _ => Err(Failure::new("--tls-certificate and --tls-key are given together or not at all")),
    }
}
