//! Every syscall, ioctl and netlink socket; the only unsafe.

pub mod clone;
pub mod namespace;

pub mod mount;
pub mod procfs;
pub mod tree;

pub mod capability;
pub mod execute;
pub mod keyring;
pub mod seccomp;
pub mod signal;

pub mod bpf;
pub mod channel;
pub mod descriptor;
pub mod monitor;

pub mod netlink;
pub mod network_namespace;

#[cfg(all(feature = "fault-injection", target_arch = "x86_64"))]
pub mod trace;
