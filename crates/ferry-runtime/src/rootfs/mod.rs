//! The container's file tree: its root, mounts, devices, masks.
//!
//! Owns everything below the container's `/` until the command runs. Works on descriptors; no path
//! of the container is ever resolved outside its root.

pub(crate) mod plan;

mod options;

pub(crate) mod devices;
pub(crate) mod id_map;
pub(crate) mod mask;
pub(crate) mod mounts;
pub(crate) mod overlay;
pub use mounts::detached_mount;
pub use overlay::detached_root;
