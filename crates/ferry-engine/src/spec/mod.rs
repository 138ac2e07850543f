//! From what was asked for (`Config`, `HostConfig`) and the image to the runtime's specification.
//!
//! Start reading at [`build()`]; the other files are the parts of a specification.

mod build;
pub mod devices;
pub mod layered;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod propagation;
pub mod resources;
pub mod security;
pub mod user;

pub use build::{Built, EtcFiles, SpecError, SpecInput, build, cgroup_path};
