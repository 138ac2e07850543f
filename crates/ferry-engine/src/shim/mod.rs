//! The engine's side of the monitors: asking the launcher for one, and talking to it while it lives.

pub mod launcher;
pub mod link;
pub mod socket;

pub use launcher::{LaunchError, Launcher};
pub use link::{LinkError, Reply, ShimLink};
