//! What builds of an engine that died left behind: steps that still run, their directories.

use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::{SHIM_SOCKET, ShimEvent, ShimRequest};
use ferry_sys::channel::Channel;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::Engine;
use crate::shim::ShimLink;

/// Signal that ends what still runs.
const SIGKILL: i32 = 9;
/// How long a monitor may take to end, and how often it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Ends steps without a record and removes their directories. Goes on after errors: what stays is
/// tried again by the next start.
pub async fn sweep(engine: &Arc<Engine>) {
    let containers = match engine.store.containers().read_all() {
        Ok(containers) => containers,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for remains of builds");
            return;
        }
    };
    // A container always has a record, and a build's step never has.
    for (id, record) in containers {
        if record.is_err_and(|error| error.is_not_found()) {
            remove(engine, &id).await;
        }
    }
}

/// Kills all that a monitor looks after and lets the monitor go; true when it has ended. It takes its leave only
/// when the kernel has ended the processes.
pub async fn end_monitor(link: &ShimLink, events: &mut UnboundedReceiver<ShimEvent>) -> bool {
    let ended = async {
        link.tell(ShimRequest::Signal { exec_id: None, signal: SIGKILL, all: true }, Vec::new());
        while link.ask(ShimRequest::Release, Vec::new()).await.is_err() && !events.is_closed() {
            tokio::time::sleep(PAUSE).await;
        }
        while events.recv().await.is_some() {}
    };
    tokio::time::timeout(PATIENCE, ended).await.is_ok()
}

async fn remove(engine: &Arc<Engine>, id: &str) {
    let run_dir = engine.run_dir(id);
    if let Ok(channel) = Channel::connect(&run_dir.join(SHIM_SOCKET))
        && let Ok((link, mut events)) = ShimLink::start(channel)
        && !end_monitor(&link, &mut events).await
    {
        tracing::warn!(id, "the monitor of a build step does not end");
    }
    let secrets = run_dir.join("secrets");
    // Most steps have no secrets mounted; then there is nothing to unmount.
    let _ = rustix::mount::unmount(&secrets, rustix::mount::UnmountFlags::DETACH);
    if let Err(error) = std::fs::remove_dir_all(&run_dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(id, %error, "run directory of a build step stays");
    }
    if let Err(error) = engine.store.snapshots().remove(id) {
        tracing::warn!(id, error = &error as &dyn std::error::Error, "snapshot of a build step stays");
    }
    if let Err(error) = engine.store.containers().remove(id) {
        tracing::warn!(id, error = &error as &dyn std::error::Error, "directory of a build step stays");
    }
}
