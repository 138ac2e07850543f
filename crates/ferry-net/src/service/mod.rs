//! The network service: makes kernel and plans agree, and keeps them so.
//!
//! It lives in the keeper, so that engines come and go while bridges, ports, names
//! and proxied connections stay. Threads: `network` carries out requests one after
//! another (the kernel's own network lock would serialise them anyway) and repairs
//! the firewall; `netns` makes namespaces ahead; `dns` and `proxy` serve traffic.
//!
//! What exists is written below the run root before it is answered:
//!
//! ```text
//! <run root>/network/
//!   networks/<id>.json     a NetworkPlan
//!   sandboxes/<id>.json    a SandboxPlan, its bound ports and namespace inode
//!   forwarding.json        interfaces that routed nothing before ferry switched forwarding on
//! ```

mod adopt;
mod endpoints;
mod error;
mod forwarding;
mod janitor;
mod network;
mod pool;
mod publish;
mod sandbox;
mod state;
mod worker;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use error::ServiceError;

/// Where a service finds its surroundings.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The run root; everything of the service lives below it.
    pub run_root: PathBuf,
    /// Name of the nftables table, unique per data root.
    pub table: String,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
}

/// The path of the service's socket below a run root.
pub fn socket_path(run_root: &Path) -> PathBuf {
    run_root.join("network.sock")
}

/// The name of the nftables table for a data root: `ferry-` and eight digits.
pub fn table_name(data_root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    // FNV-1a: stable over versions of everything, which a std hasher is not.
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let path = data_root.as_os_str().as_bytes();
    let hash = path.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME));
    format!("ferry-{hash:08x}")
}

/// A running service. Dropping it changes nothing: its threads end with the process.
#[derive(Debug)]
pub struct Service {
    _private: (),
}

impl Service {
    /// Adopts what the last service left below the run root, then listens on
    /// `network.sock`. Returns once requests are taken.
    pub fn start(options: ServiceOptions) -> io::Result<Self> {
        let worker = worker::Worker::start(options)?;
        std::thread::Builder::new().name("network".into()).spawn(move || {
            let _guard = EndTogether;
            worker.run();
        })?;
        Ok(Self { _private: () })
    }
}

/// A process whose network thread is gone would look alive and serve nobody; ended
/// whole it is replaced, and its successor adopts everything.
struct EndTogether;

impl Drop for EndTogether {
    fn drop(&mut self) {
        std::process::abort();
    }
}
