//! From what was asked for (`Config`, `HostConfig`) and the image to the runtime's specification.

pub mod mounts;
