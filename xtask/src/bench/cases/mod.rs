//! What is measured and which ratio is wanted. A case gives one figure per competitor, ferry's first.

mod api;
mod build;
mod compose;
mod data;
mod logs;
mod memory;
mod network;
mod registry;
mod registry_server;
mod run;

use anyhow::Result;

use super::measure::Figure;
use super::peers::Field;

/// One measurement.
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    /// Unit of the figures; for `ms`, `MiB` and the like, less is better; for rates (`MB/s`), more is.
    pub unit: &'static str,
    /// The command as a reader would type it.
    pub command: &'static str,
    /// What ferry's figure should be in relation to a peer's: (peer, ratio).
    pub wanted: &'static [(&'static str, f64)],
    /// What ferry's figure should be, whatever a peer's is; in the unit.
    pub limit: Option<f64>,
    /// Measures all competitors.
    pub measure: fn(&Field) -> Result<Vec<Figure>>,
}

/// All cases. Those that leave nothing running come first, so that every case finds a quiet machine.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let tables = [
        memory::CASES,
        run::CASES,
        logs::CASES,
        network::CASES,
        build::CASES,
        compose::CASES,
        data::CASES,
        registry::CASES,
        registry_server::CASES,
        api::CASES,
        registry::MEMORY_CASES,
    ];
    tables.into_iter().flatten()
}
