//! Every system call, ioctl and netlink socket of the project, and the only `unsafe` in it.
//!
//! Owns the kernel's interfaces as safe functions over descriptors and plain values; what rustix already
//! offers safely is used from there. Never decides policy: which namespaces, mounts or limits a container
//! gets is the business of the crates above.
//!
//! Start reading at [`clone`], where a container's first process begins, then [`mount`] and [`procfs`].

pub mod clone;
pub mod namespace;

pub mod mount;
pub mod procfs;
pub mod tree;

pub mod capability;
pub mod execute;
pub mod keyring;
pub mod rights;
pub mod seccomp;
pub mod signal;

pub mod bpf;
pub mod channel;
pub mod descriptor;
pub mod monitor;

pub mod netlink;
pub mod network_namespace;
pub mod xtables;

#[cfg(all(feature = "fault-injection", target_arch = "x86_64"))]
pub mod trace;
