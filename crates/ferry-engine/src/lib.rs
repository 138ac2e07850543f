//! The daemon: HTTP server, container state machine, recovery, events.
//!
//! Owns what containers are and what happens to them; every change of a container's status goes through
//! [`container::state::transition`]. Never starts a process itself (the launcher and the monitors do, and they
//! outlive this process), never builds a path under the data root (the store does).
//!
//! Start reading at [`run`], then [`engine::Engine`], then `container/`: one file per verb.

pub mod build;
pub mod clock;
pub mod container;
pub mod daemon_file;
pub mod defaults;
pub mod engine;
pub mod error;
pub mod events;
pub mod files;
pub mod host;
pub mod image;
pub mod network;
pub mod options;
pub mod registries;
pub mod seccomp;
pub mod secrets;
pub mod server;
pub mod shim;
pub mod spec;
pub mod transfer;
pub mod volume;

pub use engine::Engine;
pub use options::{EngineOptions, run};
pub use registries::RegistryOptions;
pub use server::tls::ServerTls;
