//! `ferry compose`, `docker compose` and `docker-compose`: projects of several containers.
//!
//! Owns the command line of Compose: flags, printing, exit codes, signals. What a project is and what is done to
//! it is `ferry-compose`'s; commands about one container are handed to those of `ferry` itself.

mod attached;
mod bridge;
mod build;
mod config;
mod context;
mod down;
mod events;
mod explain;
mod forward;
mod generate;
mod legacy;
mod lifecycle;
mod list;
mod logs;
mod progress;
mod provider;
mod publish;
mod remote;
mod run;
mod table;
mod up;
mod viz;
mod watch;

use crate::cli::Globals as EngineGlobals;
use crate::failure::{Failure, Outcome};
use crate::flags::{self, Order};
use crate::output;
use crate::session::Session;
use context::Compose;
use table::COMMANDS;

/// How Compose was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// `ferry compose`.
    Ferry,
    /// `docker compose`.
    Docker,
    /// `docker-compose`, the program of its own.
    Standalone,
}

impl Called {
    /// The words before the command.
    pub fn words(self) -> &'static str {
        match self {
            Called::Ferry => "ferry compose",
            Called::Docker => "docker compose",
            Called::Standalone => "docker-compose",
        }
    }
}

/// Commands whose effect is that of a program, and so not to be told before.
const REALLY_DONE: [&str; 10] =
    ["attach", "bridge", "commit", "cp", "exec", "export", "publish", "push", "run", "wait"];

/// The version of docker compose whose behaviour this is; tools ask for it.
pub const COMPATIBLE_VERSION: &str = "2.40.3";

crate::flags! {
    /// Flags before the command, version 1's among them.
    pub struct Globals {
        all_resources: bool = '-' "all-resources" "Include all resources, even those not used by services";
        ansi: Option<String> = '-' "ansi" <string> "Control when to print ANSI control characters (\"never\"|\"always\"|\"auto\")";
        compatibility: bool = '-' "compatibility" "Run compose in backward compatibility mode";
        context: Option<String> = 'c' "context" <string> "Name of the context to use to connect to the engine";
        debug: bool = 'D' "debug" "Enable debug mode";
        dry_run: bool = '-' "dry-run" "Show what would be done, and why, without doing it";
        env_file: Vec<String> = '-' "env-file" <list> "Specify an alternate environment file";
        file: Vec<String> = 'f' "file" <list> "Compose configuration files";
        host: Vec<String> = 'H' "host" <list> "Engine socket to connect to";
        insecure_registry: Vec<String> = '-' "insecure-registry" <list> "Use insecure registry to pull Compose OCI artifacts";
        log_level: Option<String> = '-' "log-level" <string> "Set the logging level";
        no_ansi: bool = '-' "no-ansi" "Do not print ANSI control characters";
        parallel: Option<i64> = '-' "parallel" <int> "Control max parallelism, -1 for unlimited";
        profile: Vec<String> = '-' "profile" <list> "Specify a profile to enable";
        progress: Option<String> = '-' "progress" <string> "Set type of progress output (auto, tty, plain, json, quiet)";
        project_directory: Option<String> = '-' "project-directory" <string> "Specify an alternate working directory";
        project_name: Option<String> = 'p' "project-name" <string> "Project name";
        skip_hostname_check: bool = '-' "skip-hostname-check" "Don't check the engine's hostname against its certificate";
        tls: bool = '-' "tls" "Use TLS; implied by --tlsverify";
        tlscacert: Option<String> = '-' "tlscacert" <string> "Trust certs signed only by this CA";
        tlscert: Option<String> = '-' "tlscert" <string> "Path to TLS certificate file";
        tlskey: Option<String> = '-' "tlskey" <string> "Path to TLS key file";
        tlsverify: bool = '-' "tlsverify" "Use TLS and verify the remote";
        verbose: bool = '-' "verbose" "Show more output";
        version: bool = 'v' "version" "Print version information and quit";
        workdir: Option<String> = '-' "workdir" <string> "Specify an alternate working directory (deprecated)";
    }
}

/// Runs Compose with the words after its name; `session` carries the engine flags that stood before it.
pub async fn run(called: Called, session: Session, words: Vec<String>) -> i32 {
    let docker_texts = called != Called::Ferry;
    let as_json = words.windows(2).any(|pair| pair[0] == "--progress" && pair[1] == "json")
        || words.iter().any(|word| word == "--progress=json");
    match dispatch(called, session, words).await {
        Ok(code) => code,
        Err(failure) => {
            let code = if failure.code == crate::failure::ENGINE_FAILED { 1 } else { failure.code };
            if as_json && !failure.message.is_empty() {
                let message =
                    [failure.message].into_iter().chain(failure.causes).collect::<Vec<_>>().join(": ");
                output::note(&serde_json::json!({"error": true, "message": message}).to_string());
            } else {
                failure.report(called.words(), docker_texts);
            }
            code
        }
    }
}

async fn dispatch(called: Called, mut session: Session, words: Vec<String>) -> Outcome {
    let parsed = flags::parse::<Globals>(words, Order::BeforeArguments).map_err(|error| {
        Failure::new(error.to_string()).hint(format!("run '{} --help' for all options", called.words()))
    })?;
    let globals = parsed.flags;
    let mut words = parsed.arguments;
    match words.first().map(String::as_str) {
        Some("docker-cli-plugin-metadata") if called == Called::Standalone => return print_plugin_metadata(),
        // The docker CLI calls its plugins with the command's name: `docker-compose compose up`.
        Some("compose") if called == Called::Standalone => {
            take_engine_flags(&mut session, &globals);
            words.remove(0);
            return Box::pin(dispatch(Called::Docker, session, words)).await;
        }
        _ => {}
    }
    if globals.version {
        return list::print_version(called, false);
    }
    if parsed.help || words.is_empty() {
        table::print_overview(called)?;
        return Ok(if parsed.help { 0 } else { 1 });
    }
    if words[0] == "help" {
        return match words.get(1) {
            Some(name) => table::print_help(called, name),
            None => table::print_overview(called).map(|()| 0).map_err(Failure::from),
        };
    }
    take_engine_flags(&mut session, &globals);
    // `alpha` was the place of commands that are plain ones today.
    if words[0] == "alpha" && words.len() > 1 {
        words.remove(0);
    }
    let name = words.remove(0);
    let Some(command) = COMMANDS.iter().find(|command| command.names.contains(&name.as_str())) else {
        return Err(unknown(called, &name));
    };
    let mut globals = globals;
    globals.dry_run |= take_dry_run(command.names[0], &mut words);
    if globals.dry_run && REALLY_DONE.contains(&command.names[0]) {
        return Err(Failure::new(format!(
            "--dry-run cannot be combined with {name}: there is no telling what it would do"
        )));
    }
    let compose = Compose::new(called, session, globals);
    (command.run)(&compose, command, words).await
}

/// `--dry-run` may stand behind the command too, but not behind the command of a container.
fn take_dry_run(command: &str, words: &mut Vec<String>) -> bool {
    let ends = |word: &String| word == "--" || matches!(command, "run" | "exec") && !word.starts_with('-');
    let end = words.iter().position(ends).unwrap_or(words.len());
    let mut own = words.split_off(0);
    let rest = own.split_off(end);
    let is_dry = |word: &String| matches!(word.as_str(), "--dry-run" | "--dry-run=true");
    let found = own.iter().any(is_dry);
    own.retain(|word| !is_dry(word) && word != "--dry-run=false");
    words.extend(own.into_iter().chain(rest));
    found
}

/// What the docker CLI asks a plugin.
fn print_plugin_metadata() -> Outcome {
    let metadata = serde_json::json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "Ferry",
        "Version": format!("v{COMPATIBLE_VERSION}"),
        "ShortDescription": "Docker Compose",
    });
    output::line(&metadata.to_string())?;
    Ok(0)
}

/// Version 1 took the engine's flags itself.
fn take_engine_flags(session: &mut Session, globals: &Globals) {
    let own = EngineGlobals {
        context: globals.context.clone(),
        debug: globals.debug || globals.verbose,
        host: globals.host.clone(),
        tls: globals.tls,
        tlscacert: globals.tlscacert.clone(),
        tlscert: globals.tlscert.clone(),
        tlskey: globals.tlskey.clone(),
        tlsverify: globals.tlsverify,
        skip_hostname_check: globals.skip_hostname_check,
        ..EngineGlobals::default()
    };
    if own.context.is_some() || !own.host.is_empty() || own.tls || own.tlsverify {
        session.set_globals(own);
    }
}

fn unknown(called: Called, name: &str) -> Failure {
    let names = COMMANDS.iter().flat_map(|command| command.names.iter().copied());
    let failure = Failure::new(format!("unknown {} command: \"{name}\"", called.words()));
    match ferry_compose::diagnostic::nearest(name, names) {
        Some(close) => failure.hint(format!("did you mean '{} {close}'?", called.words())),
        None => failure.hint(format!("run '{} --help' for the commands", called.words())),
    }
}

/// A text as lines of a warning on stderr.
pub(crate) fn warn(text: &str) {
    output::note(&format!("warning: {text}"));
}
