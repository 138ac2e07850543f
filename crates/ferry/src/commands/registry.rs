//! `registry serve`: a registry in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration as Time;

use ferry_registry::server::ServeError;
use ferry_registry::{Settings, Tls, Upstream};

use crate::cli::Command;
use crate::command;
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
        anonymous_pull: bool = '-' "anonymous-pull" "Let everybody pull; --htpasswd is for the rest";
        gc_grace: Option<Duration> = '-' "gc-grace" <duration> "How long a blob is kept that no manifest refers to, as during a push (default 1h)";
        gc_interval: Option<Duration> = '-' "gc-interval" <duration> "How often garbage is collected (default 1m)";
        htpasswd: Option<String> = '-' "htpasswd" <file> "Users and bcrypt hashes, as 'htpasswd -B' writes them; read again when it changes";
        listen: Option<String> = '-' "listen" <address> "Where to listen, as ADDRESS:PORT or :PORT (default \"127.0.0.1:5000\")";
        max_blob_size: Option<Bytes> = '-' "max-blob-size" <bytes> "Refuse blobs larger than this";
        max_connections: Option<i64> = '-' "max-connections" <int> "Connections at a time; others wait (default 4096)";
        max_uploads: Option<i64> = '-' "max-uploads" <int> "Open uploads at a time (default 10000)";
        no_delete: bool = '-' "no-delete" "Refuse to delete";
        quiet: bool = 'q' "quiet" "Do not print each request";
        quota: Option<Bytes> = '-' "quota" <bytes> "Most bytes of blobs in one repository";
        read_only: bool = '-' "read-only" "Refuse every change";
        realm: Option<String> = '-' "realm" <text> "What is shown where a password is asked for (default \"ferry registry\")";
        root: Option<String> = '-' "root" <dir> "Where everything is kept (default \"/var/lib/ferry-registry\")";
        tls_certificate: Option<String> = '-' "tls-certificate" <file> "Serve HTTPS with this certificate chain (PEM)";
        tls_key: Option<String> = '-' "tls-key" <file> "The certificate's key (PEM)";
        tls_name: Vec<String> = '-' "tls-name" <list> "A further name or address for the certificate of --tls-self-signed";
        tls_self_signed: bool = '-' "tls-self-signed" "Serve HTTPS with a certificate made at the first start: ROOT/tls/ca.crt";
        tokens: bool = '-' "tokens" "Let clients log in once for a token, instead of sending the password each time";
        trash: Option<Duration> = '-' "trash" <duration> "How long a deleted manifest can be had back (default: not at all)";
        upstream: Vec<String> = '-' "upstream" <list> "Fetch what is not here from this registry and keep it: DOMAIN for every name, PREFIX=DOMAIN for names under PREFIX/";
        upstream_fresh: Option<Duration> = '-' "upstream-fresh" <duration> "How long a fetched tag is right before its upstream is asked again (default 1m)";
        upload_expiry: Option<Duration> = '-' "upload-expiry" <duration> "Remove an upload that nobody has added to for so long (default 24h)";
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
pub async fn serve(_session: &Session, flags: ServeFlags, _arguments: Vec<String>) -> Outcome {
    run(settings(&flags)?)
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

/// What the flags mean.
fn settings(flags: &ServeFlags) -> Result<Settings, Failure> {
    let root = PathBuf::from(flags.root.as_deref().unwrap_or(ROOT));
    let mut settings = Settings::new(root, address(flags.listen.as_deref().unwrap_or(LISTEN), "--listen")?);
    settings.tls = tls(flags)?;
    settings.access.htpasswd = flags.htpasswd.as_ref().map(PathBuf::from);
    settings.access.anonymous_pull = flags.anonymous_pull;
    settings.access.tokens = flags.tokens;
    if let Some(realm) = &flags.realm {
        settings.access.realm.clone_from(realm);
    }
    if flags.htpasswd.is_none() && (flags.anonymous_pull || flags.tokens) {
        return Err(Failure::new(
            "--anonymous-pull and --tokens need --htpasswd: without users, everybody may do everything",
        ));
    }
    settings.deletes = !flags.no_delete;
    settings.read_only = flags.read_only;
    settings.access_log = !flags.quiet;
    for (given, setting, name) in [
        (flags.gc_grace, &mut settings.grace, "gc-grace"),
        (flags.gc_interval, &mut settings.sweep_interval, "gc-interval"),
        (flags.trash, &mut settings.trash, "trash"),
        (flags.upstream_fresh, &mut settings.upstream_fresh, "upstream-fresh"),
        (flags.upload_expiry, &mut settings.upload_expiry, "upload-expiry"),
    ] {
        if let Some(Duration(nanoseconds)) = given {
            *setting = u64::try_from(nanoseconds)
                .map(Time::from_nanos)
                .map_err(|_| Failure::new(format!("--{name} cannot be negative")))?;
        }
    }
    // A sweep costs a sync of the disk.
    settings.sweep_interval = settings.sweep_interval.max(Time::from_millis(100));
    settings.upstreams = flags.upstream.iter().map(|text| upstream(text)).collect::<Result<_, _>>()?;
    settings.max_blob = bytes(flags.max_blob_size, "max-blob-size")?;
    settings.quota = bytes(flags.quota, "quota")?;
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

/// Reads `DOMAIN` or `PREFIX=DOMAIN`.
fn upstream(text: &str) -> Result<Upstream, Failure> {
    let (prefix, domain) = text.split_once('=').unwrap_or(("", text));
    let is_prefix = prefix.is_empty() || ferry_registry::name::Name::parse(prefix).is_some();
    let is_domain = !domain.is_empty() && !domain.contains(['/', '@']);
    match is_prefix && is_domain {
        true => Ok(Upstream { prefix: prefix.to_owned(), domain: domain.to_owned(), login: None }),
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
    match (&flags.tls_certificate, &flags.tls_key, flags.tls_self_signed) {
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
