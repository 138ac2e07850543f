//! The engine's processes as the command line starts, asks and stops them.

use std::io::ErrorKind;
use std::path::Path;

use ferry_api::{Client, Host};
use ferry_keeper::{EnsureError, KeeperOptions, ensure_running};
use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::service;
use crate::session::Target;

/// A client of the engine at the target. Where the address is the default one and nothing listens, starts an
/// engine; one that somebody named is theirs to start, and the first call tells whether it is there.
pub async fn reach(target: Target) -> Result<Client, Failure> {
    let (Host::Unix(path), None) = (&target.host, &target.named_by) else {
        return match &target.tls {
            None => Ok(Client::new(target.host)),
            Some(tls) => Client::with_tls(target.host, tls).map_err(|error| {
                Failure::from_error(&error)
                    .hint("name the files with --tlscacert, --tlscert and --tlskey, or put ca.pem, cert.pem and key.pem into DOCKER_CERT_PATH")
            }),
        };
    };
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Client::with_connection(target.host.clone(), stream).await?),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            // The keeper is started by a process of its own and is listening when that ends: a few
            // milliseconds in which this program has nothing else to do.
            ensure_started(&placed_options(&target.host)?)?;
            Ok(Client::new(target.host))
        }
        Err(error) => {
            let host = target.host.to_string();
            Err(ferry_api::ClientError::Connect { host, source: error }.into())
        }
    }
}

/// Starts the engine where none runs: the service where it is installed, else one of our own. True when one had to
/// be started.
pub fn ensure_started(options: &KeeperOptions) -> Result<bool, Failure> {
    let of_the_machine = options.run_root == Path::new(ferry_keeper::DEFAULT_RUN_ROOT);
    if of_the_machine && rustix::process::geteuid().is_root() && service::is_installed() {
        service::systemctl(&["start", service::UNIT])
            .map_err(|failure| failure.hint(format!("see why with: journalctl -u {}", service::UNIT)))?;
    }
    ensure_running(options).map_err(|error| start_failure(&error))
}

/// The options of an engine that a command starts, with the places that the settings file names.
fn placed_options(host: &Host) -> Result<KeeperOptions, Failure> {
    let mut options = default_options(host);
    let places = ferry_engine::RegistryOptions::default().places();
    let (hosts, data_root) = places.map_err(|error| Failure::from_error(&error))?;
    options.hosts.extend(hosts.into_iter().filter(|other| *other != host.to_string() && other != "fd://"));
    options.data_root = data_root.unwrap_or(options.data_root);
    Ok(options)
}

/// The options of an engine for this address: the machine's roots, or this user's.
pub fn default_options(host: &Host) -> KeeperOptions {
    let mut options = KeeperOptions { hosts: vec![host.to_string()], ..KeeperOptions::default() };
    if !rustix::process::geteuid().is_root() {
        let home = crate::session::environment("HOME").unwrap_or_else(|| "/".into());
        let data =
            crate::session::environment("XDG_DATA_HOME").unwrap_or_else(|| format!("{home}/.local/share"));
        options.data_root = format!("{data}/ferry").into();
        if let Some(folder) = host.unix_path().and_then(|path| path.parent()) {
            options.run_root = folder.to_owned();
        }
    }
    options
}

/// Why an engine did not start, and what to do.
pub fn start_failure(error: &EnsureError) -> Failure {
    let failure = Failure::from_error(error).context("cannot start the engine");
    match error {
        EnsureError::Permission(_) => failure.hint("run as root: sudo ferry ..."),
        _ if !rustix::process::geteuid().is_root() => {
            failure.hint("see what is missing with 'ferry doctor', or run as root, with sudo")
        }
        EnsureError::Failed { message } if message.contains("CAP_SYS_ADMIN") => failure.hint(
            "inside a container: give it --privileged; under a service manager: do not limit CapabilityBoundingSet",
        ),
        _ => failure.hint("run 'ferry engine run' to see what it says"),
    }
}
