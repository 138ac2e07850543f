//! From the words after the program's name to the command that they call.

use super::{Command, help, nearest, print_overview};
use crate::commands::{COMMANDS, GROUPS};
use crate::compose::{self, Called};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, FlagError, FlagSet, FlagSpec, Order};
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags before the command.
    pub struct Globals {
        config: Option<String> = '-' "config" <string> "Location of client config files (default \"~/.docker\")";
        context: Option<String> = 'c' "context" <string> "Name of the context to use to connect to the engine";
        debug: bool = 'D' "debug" "Enable debug mode";
        host: Vec<String> = 'H' "host" <list> "Engine socket to connect to";
        log_level: Option<String> = 'l' "log-level" <string> "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\") (default \"info\")";
        skip_hostname_check: bool = '-' "skip-hostname-check" "Do not check the engine's address against its certificate";
        tls: bool = '-' "tls" "Use TLS; implied by --tlsverify";
        tlscacert: Option<String> = '-' "tlscacert" <string> "Trust certs signed only by this CA";
        tlscert: Option<String> = '-' "tlscert" <string> "Path to TLS certificate file";
        tlskey: Option<String> = '-' "tlskey" <string> "Path to TLS key file";
        tlsverify: bool = '-' "tlsverify" "Use TLS and verify the remote";
        version: bool = 'v' "version" "Print version information and quit";
    }
}

/// The flags before the command, for help and completion.
pub fn global_specs() -> Vec<&'static FlagSpec> {
    Globals::specs()
}

/// Runs what `words` ask for, as the program `called`.
pub async fn run(called: &'static str, words: Vec<String>) -> i32 {
    let docker_texts = called == "docker";
    let mut session = Session::new(called, docker_texts);
    match dispatch(&mut session, words).await {
        Ok(code) => code,
        Err(failure) => {
            failure.report(called, docker_texts);
            failure.code
        }
    }
}

async fn dispatch(session: &mut Session, words: Vec<String>) -> Outcome {
    let parsed = flags::parse::<Globals>(words, Order::BeforeArguments)
        .map_err(|error| global_failure(session, &error))?;
    let globals = parsed.flags;
    let words = parsed.arguments;
    if globals.version {
        output::line(&crate::version_line(session.called))?;
        return Ok(0);
    }
    if parsed.help || words.is_empty() {
        print_overview(session)?;
        return Ok(0);
    }
    session.set_globals(globals);
    if words[0] == "compose" {
        let called = if session.docker_texts { Called::Docker } else { Called::Ferry };
        let own = std::mem::replace(session, Session::new(session.called, session.docker_texts));
        return Ok(compose::run(called, own, words[1..].to_vec()).await);
    }
    let Some((command, rest)) = find(session, words)? else { return Ok(0) };
    (command.run)(session, command, rest).await
}

/// Finds the command and leaves its path in the session; None when help was printed.
fn find(
    session: &mut Session,
    words: Vec<String>,
) -> Result<Option<(&'static Command, Vec<String>)>, Failure> {
    if words[0] == "help" {
        return help_for(session, &words[1..]).map(|()| None);
    }
    for length in [2, 1] {
        if words.len() < length {
            continue;
        }
        let path = words[..length].join(" ");
        if let Some(command) = lookup(&path) {
            session.path = path;
            return Ok(Some((command, words[length..].to_vec())));
        }
    }
    match GROUPS.iter().find(|(name, _)| *name == words[0]) {
        Some((group, about)) => group_without_command(session, group, about, &words[1..]).map(|()| None),
        None => Err(unknown_command(session, &words)),
    }
}

fn lookup(path: &str) -> Option<&'static Command> {
    COMMANDS.iter().flat_map(|list| list.iter()).find(|command| command.names.contains(&path))
}

fn help_for(session: &mut Session, words: &[String]) -> Result<(), Failure> {
    session.path = words.join(" ");
    if words.is_empty() {
        print_overview(session)?;
    } else if let Some(command) = lookup(&session.path) {
        help::print_command(session, command)?;
    } else if let Some((group, about)) = GROUPS.iter().find(|(name, _)| *name == session.path) {
        help::print_group(session, group, about)?;
    } else {
        return Err(unknown_command(session, words));
    }
    Ok(())
}

fn group_without_command(
    session: &Session,
    group: &'static str,
    about: &str,
    words: &[String],
) -> Result<(), Failure> {
    match words.first() {
        Some(word) if word != "--help" && word != "-h" && word != "help" => {
            let mut path = vec![group.to_owned()];
            path.push(word.clone());
            Err(unknown_command(session, &path))
        }
        _ => Ok(help::print_group(session, group, about)?),
    }
}

fn unknown_command(session: &Session, words: &[String]) -> Failure {
    let called = session.called;
    let in_group = words.len() > 1 && GROUPS.iter().any(|(name, _)| *name == words[0]);
    let path = if in_group { format!("{} {}", words[0], words[1]) } else { words[0].clone() };
    let names =
        COMMANDS.iter().flat_map(|list| list.iter()).flat_map(|command| command.names.iter().copied());
    let names = names.chain(GROUPS.iter().map(|(name, _)| *name));
    let close = nearest(&path, names.filter(|name| name.contains(' ') == in_group));
    let text = format!("{called}: unknown command: {called} {path}");
    if session.docker_texts {
        return Failure::new(format!("{text}\n\nRun '{called} --help' for more information"));
    }
    let failure = Failure::new(format!("unknown command '{path}'"));
    match close {
        Some(close) => failure.hint(format!("did you mean '{called} {close}'?")),
        None => failure.hint(format!("run '{called} --help' for the commands")),
    }
}

fn global_failure(session: &Session, error: &FlagError) -> Failure {
    let called = session.called;
    let failure = Failure::new(error.to_string()).code(125);
    match error {
        FlagError::Unknown { nearest: Some(close), .. } => failure.hint(format!("did you mean '--{close}'?")),
        _ => failure.hint(format!("run '{called} --help' for the options that stand before a command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_flags_have_one_letter_each() {
        let mut seen = BTreeSet::new();
        for command in COMMANDS.iter().flat_map(|list| list.iter()) {
            for name in command.names {
                assert!(seen.insert(*name), "{name} is declared twice");
            }
            let mut flags = BTreeSet::new();
            let mut letters = BTreeSet::new();
            for spec in (command.specs)() {
                assert!(flags.insert(spec.long), "{:?} declares --{} twice", command.names, spec.long);
                assert!(
                    spec.short == '-' || letters.insert(spec.short),
                    "{:?} declares -{} twice",
                    command.names,
                    spec.short
                );
            }
        }
    }
}
