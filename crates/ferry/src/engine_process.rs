//! The engine's processes as the command line starts, asks and stops them.

use std::io;

use ferry_api::Host;
use ferry_keeper::{EnsureError, KeeperOptions, ensure_running};
use tokio::net::{TcpStream, UnixStream};

use crate::failure::Failure;
use crate::session::Target;

/// Makes sure that something answers at the target. Where the address is the default one and nothing
/// listens, starts an engine; one that somebody named is theirs to start.
pub async fn make_reachable(target: &Target) -> Result<(), Failure> {
    let failed = match &target.host {
        Host::Unix(path) => match UnixStream::connect(path).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        },
        Host::Tcp(address) => match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        },
    };
    let nothing_listens = matches!(failed.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    if target.named_by.is_some() || !nothing_listens {
        return Err(unreachable(target, failed));
    }
    let options = default_options(&target.host);
    // The keeper is started by a process of its own and is listening when that ends: a few milliseconds in
    // which this program has nothing else to do.
    ensure_running(&options).map(|_| ()).map_err(|error| start_failure(&error))
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
            failure.hint("run as root; engines of ordinary users come in a later version")
        }
        _ => failure.hint("run 'ferry engine run' to see what it says"),
    }
}

fn unreachable(target: &Target, error: io::Error) -> Failure {
    let kind = error.kind();
    let failure =
        Failure::from_error(&error).context(&format!("cannot connect to the engine at {}", target.host));
    let named = target.named_by.as_deref().unwrap_or("the default");
    match kind {
        io::ErrorKind::PermissionDenied => {
            failure.hint("run as root, or as a member of the group that owns the socket")
        }
        _ => failure.hint(format!(
            "the address comes from {named}; if an engine shall run there: ferry engine start --host {}",
            target.host
        )),
    }
}
