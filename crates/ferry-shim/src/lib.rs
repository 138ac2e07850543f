//! One small monitor per container and the launcher that forks them.
//!
//! Owns a container's streams and log, its exec sessions, its exit record and the mount of its root for
//! as long as it runs. Never decides what is to run: an engine sends a complete specification. No async
//! runtime, one thread per process: both are forked and stay tiny.
//!
//! ```text
//! run root/launcher.sock                engine -> launcher
//! run root/containers/<id>/shim.sock    engine -> shim
//! data root/containers/<id>/exit.json   how the last run ended, written before anyone is told
//! data root/containers/<id>/<id>-json.log[.N[.gz]]
//! ```
//! Start reading at [`protocol`], then `launcher` and `shim`.

pub mod protocol;

pub mod launcher;
pub mod shim;

pub mod log;

pub mod client;

pub mod clock;
pub mod poll;
pub use ferry_runtime::cgroup::enter_engine_leaf;
