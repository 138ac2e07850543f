//! Commands about containers.

mod archive;
mod at_once;
mod attach;
mod checkpoint;
pub mod commit;
mod create;
mod exec;
mod lifecycle;
mod logs;
mod logs_search;
pub mod options;
mod prune;
mod ps;
mod run;
mod start;
mod stats;
mod top;
mod update;
mod why;

pub use commit::{refuse_terminal, save as save_answer};
pub use prune::prune_all;
pub use ps::summary_row;

use ferry_api::container::Inspect;
use ferry_api::{Call, Client};

use crate::cli::Command;
use crate::command;
use crate::failure::Failure;
use crate::flags::NoFlags;

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["run", "container run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        AtLeast(1);
        BeforeArguments,
        (options::ContainerFlags, run::RunFlags),
        run::run
    ),
    command!(
        ["create", "container create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        AtLeast(1);
        BeforeArguments,
        options::ContainerFlags,
        create::create
    ),
    command!(
        ["start", "container start"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        AtLeast(1),
        start::StartFlags,
        start::start
    ),
    command!(
        ["stop", "container stop"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        AtLeast(1),
        lifecycle::StopFlags,
        lifecycle::stop
    ),
    command!(
        ["restart", "container restart"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        AtLeast(1),
        lifecycle::StopFlags,
        lifecycle::restart
    ),
    command!(
        ["kill", "container kill"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        AtLeast(1),
        lifecycle::KillFlags,
        lifecycle::kill
    ),
    command!(
        ["rm", "container rm", "container remove"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        AtLeast(1),
        lifecycle::RmFlags,
        lifecycle::rm
    ),
    command!(
        ["pause", "container pause"],
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        AtLeast(1),
        NoFlags,
        lifecycle::pause
    ),
    command!(
        ["unpause", "container unpause"],
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        AtLeast(1),
        NoFlags,
        lifecycle::unpause
    ),
    command!(
        ["rename", "container rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Exactly(2),
        NoFlags,
        lifecycle::rename
    ),
    command!(
        ["wait", "container wait"],
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        AtLeast(1),
        NoFlags,
        lifecycle::wait
    ),
    command!(
        ["ps", "container ls", "container list", "container ps"],
        "[OPTIONS]",
        "List containers",
        None,
        ps::PsFlags,
        ps::ps
    ),
    command!(
        ["logs", "container logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container, or of several with --grep or --level",
        AtLeast(0),
        logs::LogsFlags,
        logs::logs
    ),
    command!(
        ["attach", "container attach"],
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        Exactly(1),
        attach::AttachFlags,
        attach::attach
    ),
    command!(
        ["exec", "container exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        AtLeast(2);
        BeforeArguments,
        exec::ExecFlags,
        exec::exec
    ),
    command!(
        ["top", "container top"],
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        AtLeast(1);
        BeforeArguments,
        NoFlags,
        top::top
    ),
    command!(
        ["stats", "container stats"],
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        AtLeast(0),
        stats::StatsFlags,
        stats::stats
    ),
    command!(
        ["why", "container why"],
        "CONTAINER",
        "Explain what happened to a container, and what to type next",
        Exactly(1),
        NoFlags,
        why::why
    ),
    command!(
        ["port", "container port"],
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        Between(1, 2),
        NoFlags,
        top::port
    ),
    command!(
        ["update", "container update"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        AtLeast(1),
        update::UpdateFlags,
        update::update
    ),
    command!(
        ["cp", "container cp"],
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        Exactly(2),
        archive::CpFlags,
        archive::cp
    ),
    command!(
        ["export", "container export"],
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        Exactly(1),
        commit::ExportFlags,
        commit::export
    ),
    command!(
        ["diff", "container diff"],
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        Exactly(1),
        NoFlags,
        commit::diff
    ),
    command!(
        ["commit", "container commit"],
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        Between(1, 2),
        commit::CommitFlags,
        commit::commit
    ),
    command!(
        ["checkpoint create"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Create a checkpoint from a running container",
        Exactly(2),
        checkpoint::CreateFlags,
        checkpoint::create
    ),
    command!(
        ["checkpoint ls", "checkpoint list"],
        "[OPTIONS] CONTAINER",
        "List checkpoints for a container",
        Exactly(1),
        checkpoint::FolderFlags,
        checkpoint::ls
    ),
    command!(
        ["checkpoint rm", "checkpoint remove"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Remove a checkpoint",
        Exactly(2),
        checkpoint::FolderFlags,
        checkpoint::rm
    ),
    command!(
        ["container prune"],
        "[OPTIONS]",
        "Remove all stopped containers",
        None,
        prune::PruneFlags,
        prune::prune
    ),
];

/// The path of a container, or of something of it.
fn path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", Call::segment(name))
}

/// What the engine knows of a container.
async fn inspect(client: &Client, name: &str) -> Result<Inspect, Failure> {
    let found = client.call(Call::get(path(name, "/json"))).await;
    Ok(found.map_err(|error| missing(error, name))?.json().await?)
}

/// A failed call about a container, with a hint where there is none of this name.
fn missing(error: ferry_api::ClientError, name: &str) -> Failure {
    let not_found = error.is_not_found();
    let failure = Failure::from(error);
    match not_found && failure.message.contains("No such container") {
        true if name.is_empty() => failure.hint("the name is empty (an unset variable?)"),
        true => failure.hint("run 'ferry ps -a' for the containers there are"),
        false => failure,
    }
}
