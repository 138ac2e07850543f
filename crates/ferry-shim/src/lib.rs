//! One small monitor per container and the launcher that forks them.

pub mod protocol;
