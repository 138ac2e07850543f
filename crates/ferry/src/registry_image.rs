//! The program of the image `localhost/registry`: `ferry registry serve`, told by the variables of the image
//! `registry:2` rather than by flags, with its data where that image has it.

use std::ffi::OsString;
use std::path::PathBuf;

use ferry_registry::{Settings, Tls};

use crate::commands::registry::{address, run as serve, upstream};
use crate::commands::registry_bucket;
use crate::failure::Failure;
use crate::output;

/// Where `registry:2` keeps its data.
const ROOT: &str = "/var/lib/registry";
/// Where `registry:2` listens.
const LISTEN: &str = ":5000";

/// Runs the registry; gives the exit code.
pub fn run(words: &[OsString]) -> i32 {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("REGISTRY_"));
    let served = check_words(words).and_then(|()| settings(variables)).and_then(serve);
    served.unwrap_or_else(|failure| {
        failure.report("registry", false);
        failure.code
    })
}

/// Compose files give `registry:2` its own command's words at times.
fn check_words(words: &[OsString]) -> Result<(), Failure> {
    match words {
        [] => Ok(()),
        [word] if word == "serve" => Ok(()),
        words => Err(Failure::new(format!("unknown words {words:?}"))
            .hint("this image is told by REGISTRY_* variables; it reads no configuration file")),
    }
}

/// What the variables mean. One that is not known is told, and has no effect.
fn settings(variables: impl Iterator<Item = (String, String)>) -> Result<Settings, Failure> {
    let mut settings = Settings::new(PathBuf::from(ROOT), address(LISTEN, "")?);
    let (mut certificate, mut key) = (None, None);
    let mut named = registry_bucket::Named::default();
    let (mut proxy, mut username, mut password) = (None, String::new(), String::new());
    for (name, value) in variables {
        match name.as_str() {
            "REGISTRY_HTTP_ADDR" => settings.listen = address(&value, &name)?,
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY" => settings.root = PathBuf::from(value),
            "REGISTRY_STORAGE_DELETE_ENABLED" => settings.deletes = switch(&name, &value)?,
            "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED" => settings.read_only = switch(&name, &value)?,
            "REGISTRY_LOG_ACCESSLOG_DISABLED" => settings.access_log = !switch(&name, &value)?,
            "REGISTRY_AUTH_HTPASSWD_PATH" => settings.access.htpasswd = Some(PathBuf::from(value)),
            "REGISTRY_AUTH_HTPASSWD_REALM" => settings.access.realm = value,
            "REGISTRY_HTTP_TLS_CERTIFICATE" => certificate = Some(PathBuf::from(value)),
            "REGISTRY_HTTP_TLS_KEY" => key = Some(PathBuf::from(value)),
            "REGISTRY_PROXY_REMOTEURL" => proxy = Some(upstream(&value)?),
            "REGISTRY_PROXY_USERNAME" => username = value,
            "REGISTRY_PROXY_PASSWORD" => password = value,
            "REGISTRY_STORAGE_S3_BUCKET" => named.bucket = value,
            "REGISTRY_STORAGE_S3_REGION" => named.region = Some(value),
            "REGISTRY_STORAGE_S3_REGIONENDPOINT" => named.endpoint = Some(value),
            "REGISTRY_STORAGE_S3_ROOTDIRECTORY" => named.prefix = value,
            "REGISTRY_STORAGE_S3_ACCESSKEY" => named.access_key = Some(value),
            "REGISTRY_STORAGE_S3_SECRETKEY" => named.secret_key = Some(value),
            "REGISTRY_STORAGE" if matches!(value.as_str(), "filesystem" | "s3") => {}
            "REGISTRY_AUTH" if value == "htpasswd" => {}
            // Uploads are kept by this registry itself, so there is nothing that a secret would protect.
            "REGISTRY_HTTP_SECRET" => {}
            _ => output::note(&format!("warning: {name} is not known to this registry and has no effect")),
        }
    }
    if !named.bucket.is_empty() {
        settings.bucket = Some(registry_bucket::settings(named)?);
    }
    if let Some(mut upstream) = proxy {
        upstream.log_in(username, password);
        settings.upstreams.push(upstream);
    }
    settings.tls = match (certificate, key) {
        (None, None) => Tls::Off,
        (Some(certificate), Some(key)) => Tls::Given { certificate, key },
        _ => return Err(Failure::new("REGISTRY_HTTP_TLS_CERTIFICATE and REGISTRY_HTTP_TLS_KEY go together")),
    };
    let asked = std::env::var("REGISTRY_AUTH").is_ok_and(|kind| kind != "none");
    if asked && settings.access.htpasswd.is_none() {
        return Err(Failure::new(
            "REGISTRY_AUTH asks for a login, and REGISTRY_AUTH_HTPASSWD_PATH names no users",
        ));
    }
    Ok(settings)
}

fn switch(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Failure::new(format!("{name}={value:?} is neither true nor false"))),
    }
}
