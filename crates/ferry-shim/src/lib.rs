//! One small monitor per container and the launcher that forks them.

pub mod clock;
pub mod log;
pub mod protocol;
