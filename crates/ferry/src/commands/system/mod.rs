//! Commands about the engine and the whole installation.

mod df;
mod dial;
mod events;
mod forecast;
mod info;
mod prune;
mod version;

pub use df::cache_records;
pub use prune::prune_cache;

use crate::cli::Command;
use crate::command;
use crate::flags::NoFlags;

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["version"],
        "[OPTIONS]",
        "Show the version information of client and engine",
        None,
        version::VersionFlags,
        version::version
    ),
    command!(
        ["info", "system info"],
        "[OPTIONS]",
        "Display system-wide information",
        None,
        info::InfoFlags,
        info::info
    ),
    command!(
        ["events", "system events"],
        "[OPTIONS]",
        "Get real time events from the server",
        None,
        events::EventsFlags,
        events::events
    ),
    command!(["system df"], "[OPTIONS]", "Show disk usage", None, df::DfFlags, df::df),
    command!(["system prune"], "[OPTIONS]", "Remove unused data", None, prune::PruneFlags, prune::prune),
    command!(
        ["system dial-stdio"],
        "",
        "Proxy the stdio stream to the engine's connection",
        None,
        NoFlags,
        dial::dial_stdio
    ),
];
