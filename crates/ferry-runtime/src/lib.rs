//! OCI runtime: a runtime spec in, a namespaced process out.
//!
//! Owns everything between a finished specification and `execve`: namespaces, cgroups, mounts,
//! devices, capabilities, seccomp, users, terminals. It never decides policy (what the defaults of
//! a container are is the engine's business), never logs and never keeps state on disk.
//!
//! `run` and `exec` clone the calling process, so they may be called from a single-threaded
//! process only.
//!
//! Start reading at [`create::run`], then `create/init.rs`: the list of steps there is the life of
//! a container's first process.

mod error;
mod request;

pub mod capability;
pub mod cgroup;
pub mod create;
pub mod exec;
pub mod hooks;
pub mod resctrl;
pub mod seccomp;
pub mod systemd;

mod kernel;
mod network;
mod process;
mod rootfs;

pub use create::{
    Created, Detached, IPC_SYSCTLS, Prepared, Step, create, create_detached, prepare, run, start,
};
pub use error::{CommandError, CreateError, EndedError, ExecError, SpecError, StepError};
pub use exec::exec;
pub use request::{CreateRequest, ExecRequest, FaultHook, Process, Rootfs, Stdio};
pub use rootfs::{detached_mount, detached_root};
