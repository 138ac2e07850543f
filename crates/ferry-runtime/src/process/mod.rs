//! What happens to a process after its root is in place: streams, user, limits, privileges, command.
//!
//! Owns everything `run` and `exec` have in common. Everything here acts on the calling process.

pub(crate) mod affinity;
pub(crate) mod agent;
pub(crate) mod memory_policy;
pub(crate) mod plan;
pub(crate) mod scheduling;

pub(crate) mod command;
pub(crate) mod directory;
pub(crate) mod privileges;
pub(crate) mod reaper;
pub(crate) mod streams;
