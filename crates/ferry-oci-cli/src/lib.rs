//! The OCI runtime command line, as engines call it: `ferry runtime create`, `start`, `kill`, `delete` and their kin.
//!
//! Owns flags, exit codes, error format and state files, which are runc's, so that podman, containerd and dockerd can
//! use it in runc's place. It stands alone on a state directory and a bundle: no engine is asked. How a container is
//! made is the business of `ferry-runtime`.
//!
//! ```text
//! <root>/<id>/state.json    what the container is: its init, its cgroup, its bundle's configuration
//! <root>/<id>/start.sock    its init listens here until somebody starts it
//! ```
//!
//! Called while the process has one thread, for it clones itself. Start reading at [`run`].

#![forbid(unsafe_code)]

mod arguments;
mod error;
mod log;

mod bundle;
mod holdings;
mod identifier;
mod passwd;
mod process_stat;
mod state;
mod unknown;

mod console;
mod foreground;

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod help;
mod kill;
mod list;
mod protect;
mod ps;
mod spec;
mod start;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use arguments::{Flag, parse};
use error::CliError;
use log::Log;

/// Where containers' states are kept unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/ferry-runtime";

/// What is said before the command.
struct Global {
    /// The name in messages: `runc` for those who called it so.
    called: &'static str,
    root: PathBuf,
    log: Log,
    /// Cgroups are scopes of systemd's.
    systemd: bool,
}

const GLOBAL_FLAGS: &[Flag] = &[
    Flag::value("root", ""),
    Flag::value("log", ""),
    Flag::value("log-format", ""),
    Flag::value("rootless", ""),
    Flag::value("criu", ""),
    Flag::switch("debug", ""),
    Flag::switch("systemd-cgroup", ""),
    Flag::switch("help", "h"),
    Flag::switch("version", "v"),
];

type Command = fn(&Global, &[String]) -> Result<i32, CliError>;

const COMMANDS: &[(&str, Command)] = &[
    ("create", create::create),
    ("run", create::run),
    ("start", start::start),
    ("state", list::state),
    ("list", list::list),
    ("kill", kill::kill),
    ("delete", delete::delete),
    ("exec", exec::exec),
    ("ps", ps::ps),
    ("pause", kill::pause),
    ("resume", kill::resume),
    ("update", update::update),
    ("events", events::events),
    ("spec", spec::spec),
    ("features", features::features),
    ("checkpoint", no_checkpoints),
    ("restore", no_checkpoints),
];

/// Runs the command line; `called` is the name in messages. Returns the exit code.
pub fn run(called: &str, words: &[OsString]) -> i32 {
    let given = words;
    let called = if called == "runc" { "runc" } else { "ferry" };
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut log = Log::stderr();
    match dispatch(called, &words, given, &mut log) {
        Ok(code) => code,
        Err(error) => {
            log.fatal(&error.to_string());
            error.code()
        }
    }
}

fn dispatch(
    called: &'static str,
    words: &[String],
    given: &[OsString],
    log: &mut Log,
) -> Result<i32, CliError> {
    let parsed = parse(GLOBAL_FLAGS, words)?;
    if let Some(path) = parsed.value("log") {
        *log = Log::open(path, parsed.value("log-format").unwrap_or("text"))?;
    } else if let Some(format) = parsed.value("log-format") {
        log.set_format(format)?;
    }
    if parsed.has("version") {
        help::version(called);
        return Ok(0);
    }
    let Some((word, rest)) =
        parsed.arguments.split_first().filter(|(word, _)| !parsed.has("help") && *word != "help")
    else {
        help::print(called);
        return Ok(0);
    };
    let Some((_, command)) = COMMANDS.iter().find(|(name, _)| name == word) else {
        return Err(CliError::usage(format!("No help topic for '{word}'")));
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") && word != "exec" && word != "ps" {
        help::print(called);
        return Ok(0);
    }
    if matches!(word.as_str(), "create" | "run" | "exec") {
        protect::ensure(called, given)?;
    }
    let root = PathBuf::from(parsed.value("root").unwrap_or(DEFAULT_ROOT));
    let result =
        command(&Global { called, root, log: log.clone(), systemd: parsed.has("systemd-cgroup") }, rest);
    result.map_err(|error| match word.as_str() {
        "create" | "run" => error.in_command(format!("{called} {word}")),
        "exec" => error.in_command("exec".to_owned()),
        _ => error,
    })
}

fn no_checkpoints(_: &Global, _: &[String]) -> Result<i32, CliError> {
    Err(CliError::other("checkpoint and restore are not supported by this runtime"))
}
