//! The table of commands, their help, and the parsing of their words.

use super::context::Compose;
use super::{Called, Globals};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, FlagSet, FlagSpec, NoFlags, Order};
use crate::output;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// A command under way.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// One command.
pub struct Command {
    /// Its names, the one to show first.
    pub names: &'static [&'static str],
    /// What follows the name.
    pub usage: &'static str,
    /// One line of help; empty for one that help does not list.
    pub about: &'static str,
    /// Fewest and most arguments.
    pub arity: (usize, usize),
    /// Where flags may stand.
    pub order: Order,
    /// Its flags.
    pub specs: fn() -> Vec<&'static FlagSpec>,
    /// Runs it.
    pub run: for<'a> fn(&'a Compose, &'static Command, Vec<String>) -> Running<'a>,
}

macro_rules! command {
    ([$($name:literal),+], $usage:literal, $about:literal, $arity:expr, $order:ident, $flags:ty, $run:path) => {
        Command {
            names: &[$($name),+],
            usage: $usage,
            about: $about,
            arity: $arity,
            order: Order::$order,
            specs: <$flags as FlagSet>::specs,
            run: |compose, command, words| Box::pin(async move {
                match read::<$flags>(compose.called, command, words)? {
                    Some((flags, arguments)) => $run(compose, flags, arguments).await,
                    None => Ok(0),
                }
            }),
        }
    };
}

/// Any number.
const ANY: (usize, usize) = (0, usize::MAX);
/// One or more.
const SOME: (usize, usize) = (1, usize::MAX);

use super::{
    bridge, build, config, down, events, explain, forward, generate, legacy, lifecycle, list, logs, publish,
    run, up, viz, watch,
};

/// All commands.
pub static COMMANDS: &[Command] = &[
    command!(
        ["attach"],
        "[OPTIONS] SERVICE",
        "Attach local standard input, output, and error streams to a service's running container",
        (1, 1),
        Interspersed,
        forward::AttachFlags,
        forward::attach
    ),
    command!(
        ["bridge"],
        "COMMAND",
        "Convert compose files into another model (convert, transformations list, transformations create)",
        ANY,
        BeforeArguments,
        NoFlags,
        bridge::bridge
    ),
    command!(
        ["build"],
        "[OPTIONS] [SERVICE...]",
        "Build or rebuild services",
        ANY,
        Interspersed,
        build::BuildFlags,
        build::build
    ),
    command!(
        ["bundle"],
        "[OPTIONS]",
        "Write the project as a Docker bundle",
        (0, 0),
        Interspersed,
        legacy::BundleFlags,
        legacy::bundle
    ),
    command!(
        ["commit"],
        "[OPTIONS] SERVICE [REPOSITORY[:TAG]]",
        "Create a new image from a service container's changes",
        (1, 2),
        Interspersed,
        forward::CommitFlags,
        forward::commit
    ),
    command!(
        ["config", "convert"],
        "[OPTIONS] [SERVICE...]",
        "Parse, resolve and render compose file in canonical format",
        ANY,
        Interspersed,
        config::ConfigFlags,
        config::config
    ),
    command!(
        ["cp"],
        "[OPTIONS] SERVICE:SRC_PATH DEST_PATH|- | SRC_PATH|- SERVICE:DEST_PATH",
        "Copy files/folders between a service container and the local filesystem",
        (2, 2),
        Interspersed,
        forward::CpFlags,
        forward::cp
    ),
    command!(
        ["create"],
        "[OPTIONS] [SERVICE...]",
        "Creates containers for a service",
        ANY,
        Interspersed,
        up::CreateFlags,
        up::create
    ),
    command!(
        ["diff"],
        "[SERVICE...]",
        "Show what 'up' would change, field by field",
        ANY,
        Interspersed,
        NoFlags,
        explain::diff
    ),
    command!(
        ["down"],
        "[OPTIONS] [SERVICES]",
        "Stop and remove containers, networks",
        ANY,
        Interspersed,
        down::DownFlags,
        down::down
    ),
    command!(
        ["events"],
        "[OPTIONS] [SERVICE...]",
        "Receive real time events from containers",
        ANY,
        Interspersed,
        events::EventsFlags,
        events::events
    ),
    command!(
        ["exec"],
        "[OPTIONS] SERVICE COMMAND [ARGS...]",
        "Execute a command in a running container",
        (2, usize::MAX),
        BeforeArguments,
        forward::ExecFlags,
        forward::exec
    ),
    command!(
        ["export"],
        "[OPTIONS] SERVICE",
        "Export a service container's filesystem as a tar archive",
        (1, 1),
        Interspersed,
        forward::ExportFlags,
        forward::export
    ),
    command!(
        ["generate"],
        "[OPTIONS] [CONTAINERS...]",
        "Generate a Compose file from existing containers",
        SOME,
        Interspersed,
        generate::GenerateFlags,
        generate::generate
    ),
    command!(
        ["images"],
        "[OPTIONS] [SERVICE...]",
        "List images used by the created containers",
        ANY,
        Interspersed,
        list::ImagesFlags,
        list::images
    ),
    command!(
        ["kill"],
        "[OPTIONS] [SERVICE...]",
        "Force stop service containers",
        ANY,
        Interspersed,
        lifecycle::KillFlags,
        lifecycle::kill
    ),
    command!(
        ["logs"],
        "[OPTIONS] [SERVICE...]",
        "View output from containers",
        ANY,
        Interspersed,
        logs::LogsFlags,
        logs::logs
    ),
    command!(
        ["ls"],
        "[OPTIONS]",
        "List running compose projects",
        (0, 0),
        Interspersed,
        list::LsFlags,
        list::ls
    ),
    command!(["pause"], "[SERVICE...]", "Pause services", ANY, Interspersed, NoFlags, lifecycle::pause),
    command!(
        ["port"],
        "[OPTIONS] SERVICE PRIVATE_PORT",
        "Print the public port for a port binding",
        (2, 2),
        Interspersed,
        list::PortFlags,
        list::port
    ),
    command!(["ps"], "[OPTIONS] [SERVICE...]", "List containers", ANY, Interspersed, list::PsFlags, list::ps),
    command!(
        ["publish"],
        "[OPTIONS] REPOSITORY[:TAG]",
        "Publish compose application",
        (1, 1),
        Interspersed,
        publish::PublishFlags,
        publish::publish
    ),
    command!(
        ["pull"],
        "[OPTIONS] [SERVICE...]",
        "Pull service images",
        ANY,
        Interspersed,
        build::PullFlags,
        build::pull
    ),
    command!(
        ["push"],
        "[OPTIONS] [SERVICE...]",
        "Push service images",
        ANY,
        Interspersed,
        build::PushFlags,
        build::push
    ),
    command!(
        ["restart"],
        "[OPTIONS] [SERVICE...]",
        "Restart service containers",
        ANY,
        Interspersed,
        lifecycle::RestartFlags,
        lifecycle::restart
    ),
    command!(
        ["rm"],
        "[OPTIONS] [SERVICE...]",
        "Removes stopped service containers",
        ANY,
        Interspersed,
        lifecycle::RmFlags,
        lifecycle::rm
    ),
    command!(
        ["run"],
        "[OPTIONS] SERVICE [COMMAND] [ARGS...]",
        "Run a one-off command on a service",
        SOME,
        BeforeArguments,
        run::RunFlags,
        run::run
    ),
    command!(
        ["scale"],
        "[SERVICE=REPLICAS...]",
        "Scale services",
        SOME,
        Interspersed,
        up::ScaleFlags,
        up::scale
    ),
    command!(
        ["start"],
        "[SERVICE...]",
        "Start services",
        ANY,
        Interspersed,
        lifecycle::StartFlags,
        lifecycle::start
    ),
    command!(
        ["stats"],
        "[OPTIONS] [SERVICE]",
        "Display a live stream of container(s) resource usage statistics",
        ANY,
        Interspersed,
        forward::StatsFlags,
        forward::stats
    ),
    command!(
        ["stop"],
        "[OPTIONS] [SERVICE...]",
        "Stop services",
        ANY,
        Interspersed,
        lifecycle::StopFlags,
        lifecycle::stop
    ),
    command!(
        ["top"],
        "[SERVICES...]",
        "Display the running processes",
        ANY,
        Interspersed,
        NoFlags,
        list::top
    ),
    command!(["unpause"], "[SERVICE...]", "Unpause services", ANY, Interspersed, NoFlags, lifecycle::unpause),
    command!(
        ["up"],
        "[OPTIONS] [SERVICE...]",
        "Create and start containers",
        ANY,
        Interspersed,
        up::UpFlags,
        up::up
    ),
    command!(
        ["version"],
        "[OPTIONS]",
        "Show the Docker Compose version information",
        (0, 0),
        Interspersed,
        list::VersionFlags,
        list::version
    ),
    command!(
        ["viz"],
        "[OPTIONS]",
        "Draw the project as a graph",
        (0, 0),
        Interspersed,
        viz::VizFlags,
        viz::viz
    ),
    command!(
        ["volumes"],
        "[OPTIONS] [SERVICE...]",
        "List volumes",
        ANY,
        Interspersed,
        list::VolumesFlags,
        list::volumes
    ),
    command!(
        ["watch"],
        "[OPTIONS] [SERVICE...]",
        "Watch the project's files and copy, rebuild or restart when they change",
        ANY,
        Interspersed,
        watch::WatchFlags,
        watch::watch
    ),
    command!(
        ["wait"],
        "SERVICE [SERVICE...] [OPTIONS]",
        "Block until containers of all (or specified) services stop",
        SOME,
        Interspersed,
        lifecycle::WaitFlags,
        lifecycle::wait
    ),
    command!(
        ["why"],
        "SERVICE",
        "Explain why 'up' would recreate a service's containers",
        (1, 1),
        Interspersed,
        NoFlags,
        explain::why
    ),
];

/// The commands behind `bridge`.
pub static BRIDGE: &[Command] = &[
    command!(
        ["bridge convert"],
        "[OPTIONS]",
        "Convert compose files to Kubernetes manifests, Helm charts, or another model",
        (0, 0),
        Interspersed,
        bridge::ConvertFlags,
        bridge::convert
    ),
    command!(
        ["bridge transformations list", "bridge transformations ls"],
        "[OPTIONS]",
        "List available transformations",
        (0, 0),
        Interspersed,
        bridge::ListFlags,
        bridge::list
    ),
    command!(
        ["bridge transformations create"],
        "[OPTIONS] PATH",
        "Create a new transformation",
        (1, 1),
        Interspersed,
        bridge::CreateFlags,
        bridge::create
    ),
];

/// Reads a command's words; none when help was printed.
fn read<F: FlagSet>(
    called: Called,
    command: &'static Command,
    words: Vec<String>,
) -> Result<Option<(F, Vec<String>)>, Failure> {
    let name = command.names[0];
    let called = called.words();
    let parsed = flags::parse::<F>(words, command.order).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match &error {
            flags::FlagError::Unknown { nearest: Some(close), .. } => {
                failure.hint(format!("did you mean '--{close}'?"))
            }
            _ => failure.hint(format!("run '{called} {name} --help' for its options")),
        }
    })?;
    if parsed.help {
        print_command(called, command)?;
        return Ok(None);
    }
    let (least, most) = command.arity;
    let given = parsed.arguments.len();
    if given < least || given > most {
        let wanted = match (least, most) {
            (0, 0) => "accepts no arguments".to_owned(),
            (least, most) if least == most => {
                format!("requires {least} argument{}", if least == 1 { "" } else { "s" })
            }
            (least, usize::MAX) => {
                format!("requires at least {least} argument{}", if least == 1 { "" } else { "s" })
            }
            (least, most) => format!("requires {least} to {most} arguments"),
        };
        return Err(Failure::new(format!("\"{called} {name}\" {wanted}, got {given}"))
            .hint(format!("usage: {called} {name} {}", command.usage)));
    }
    Ok(Some((parsed.flags, parsed.arguments)))
}

/// The help of one command.
pub fn print_help(called: Called, name: &str) -> Outcome {
    match COMMANDS.iter().find(|command| command.names.contains(&name)) {
        Some(command) => {
            print_command(called.words(), command)?;
            Ok(0)
        }
        None => Err(super::unknown(called, name)),
    }
}

fn print_command(called: &str, command: &Command) -> io::Result<()> {
    let name = command.names[0];
    let mut text = format!("Usage:  {called} {name} {}\n\n{}\n", command.usage, command.about);
    let mut specs = (command.specs)();
    specs.extend(Globals::specs().into_iter().filter(|spec| spec.long == "dry-run"));
    text.push_str("\nOptions:\n");
    text.push_str(&options(specs));
    output::write(text.as_bytes())
}

fn options(mut specs: Vec<&'static FlagSpec>) -> String {
    specs.sort_by_key(|spec| spec.long);
    let heads: Vec<String> = specs
        .iter()
        .map(|spec| {
            let letter = if spec.short == '-' { "    ".to_owned() } else { format!("-{}, ", spec.short) };
            let gap = if spec.kind.is_empty() { "" } else { " " };
            format!("  {letter}--{}{gap}{}", spec.long, spec.kind)
        })
        .collect();
    columns(heads.into_iter().zip(specs.iter().map(|spec| spec.help)))
}

fn columns<'a>(rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let rows: Vec<(String, &str)> = rows.collect();
    let width = rows.iter().map(|(head, _)| head.chars().count()).max().unwrap_or(0) + 3;
    rows.iter().map(|(head, about)| format!("{head:width$}{about}\n")).collect()
}

/// All commands and the flags before them.
pub fn print_overview(called: Called) -> io::Result<()> {
    let called = called.words();
    let mut text = format!(
        "Usage:  {called} [OPTIONS] COMMAND\n\nDefine and run multi-container applications\n\nOptions:\n"
    );
    text.push_str(&options(Globals::specs()));
    text.push_str("\nCommands:\n");
    text.push_str(&columns(
        COMMANDS.iter().map(|command| (format!("  {}", command.names[0]), command.about)),
    ));
    text.push_str(&format!("\nRun '{called} COMMAND --help' for more information on a command.\n"));
    output::write(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_letters_are_unique() {
        let mut names = BTreeSet::new();
        for command in COMMANDS {
            for name in command.names {
                assert!(names.insert(*name), "{name} is declared twice");
            }
            let mut letters = BTreeSet::new();
            for spec in (command.specs)() {
                assert!(
                    spec.short == '-' || letters.insert(spec.short),
                    "{:?}: -{} twice",
                    command.names,
                    spec.short
                );
            }
        }
    }
}
