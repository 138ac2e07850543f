//! The commands. Each file declares its flags and its row of the table beside the function that runs it.

pub mod adopt;
mod build_annotate;
mod build_attest;
mod build_cache;
mod build_call;
mod build_export;
mod build_live;
mod build_local;
mod build_metadata;
mod build_output;
mod build_pack;
mod build_platforms;
mod build_reuse;
mod build_screen;
mod build_source;
mod build_verify;
pub mod builder;
pub mod builders;
pub mod completion;
pub mod container;
pub mod context;
pub mod doctor;
pub mod engine;
pub mod image;
pub mod inspect;
pub mod install;
pub mod man;
pub mod network;
pub mod registry;
pub mod registry_bucket;
pub mod registry_config;
pub mod registry_shelf;
pub mod socket;
pub mod swarm;
pub mod system;
pub mod tour;
pub mod vault;
pub mod volume;
pub mod volume_copies;

use futures_util::future::join_all;

use crate::cli::Command;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::output;

/// All commands, by area.
pub static COMMANDS: &[&[Command]] = &[
    container::COMMANDS,
    image::COMMANDS,
    image::manifest::COMMANDS,
    builder::COMMANDS,
    builders::COMMANDS,
    volume::COMMANDS,
    volume_copies::COMMANDS,
    vault::COMMANDS,
    network::COMMANDS,
    registry::COMMANDS,
    system::COMMANDS,
    inspect::COMMANDS,
    context::COMMANDS,
    engine::COMMANDS,
    adopt::COMMANDS,
    socket::COMMANDS,
    doctor::COMMANDS,
    install::COMMANDS,
    tour::COMMANDS,
    completion::COMMANDS,
    man::COMMANDS,
    swarm::PLUGINS,
    swarm::NO_PLUGINS,
    swarm::SWARM,
    swarm::TRUST,
];

/// Groups of commands.
pub static GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("buildx", "Manage builds, under the name of Docker's plugin"),
    ("checkpoint", "Manage checkpoints"),
    ("compose", "Define and run multi-container applications"),
    ("config", "Manage configs"),
    ("container", "Manage containers"),
    ("context", "Manage contexts"),
    ("engine", "Manage this machine's engine"),
    ("image", "Manage images"),
    ("manifest", "Manage Docker image manifests and manifest lists"),
    ("network", "Manage networks"),
    ("node", "Manage Swarm nodes"),
    ("plugin", "Manage plugins"),
    ("registry", "Serve images to others"),
    ("secret", "Manage secrets"),
    ("service", "Manage Swarm services"),
    ("socket", "Serve parts of the API to tools"),
    ("stack", "Manage Swarm stacks"),
    ("swarm", "Manage Swarm"),
    ("system", "Manage the whole installation"),
    ("trust", "Manage trust on Docker images"),
    ("volume", "Manage volumes"),
];

/// Does the same to each name at once, prints the names that went well in the order given, and fails with
/// all that went wrong.
pub async fn each(names: &[String], act: impl AsyncFn(&str) -> Result<(), Failure>) -> Outcome {
    let results = join_all(names.iter().map(|name| act(name))).await;
    let mut failures = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => output::line(name)?,
            Err(failure) => failures.push(failure),
        }
    }
    match Failure::many(failures) {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

/// Reads `--filter` flags: `key=value` each.
pub fn filters(flags: &[String]) -> Result<ferry_api::Filters, Failure> {
    let mut filters = ferry_api::Filters::default();
    for flag in flags {
        let (key, value) = flag.split_once('=').ok_or_else(|| {
            let text = format!("invalid argument {flag:?} for \"-f, --filter\" flag: bad format of filter (expected name=value)");
            Failure::new(text).code(ENGINE_FAILED)
        })?;
        filters.add(key.trim().to_lowercase(), value.trim());
    }
    Ok(filters)
}

/// Asks a question that only `y` answers; a closed stdin is a no.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    output::write(format!("{question} [y/N] ").as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
