//! Help texts, made from the table of commands.

use std::io;

use super::Command;
use crate::commands::{COMMANDS, GROUPS};
use crate::output;
use crate::session::Session;

/// Narrowest column that help is still wrapped into.
const MIN_HELP_WIDTH: usize = 30;

/// The commands most people need, in the order they need them.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// Prints the help of one command.
pub fn print_command(session: &Session, command: &Command) -> io::Result<()> {
    let called = session.called;
    let mut text = format!("Usage:  {called} {} {}\n\n{}\n", session.path, command.usage, command.about);
    if command.names.len() > 1 {
        let names: Vec<String> = command.names.iter().map(|name| format!("{called} {name}")).collect();
        text.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let mut specs = (command.specs)();
    if !specs.is_empty() {
        specs.sort_by_key(|spec| spec.long);
        let heads: Vec<(String, &str)> = specs
            .iter()
            .map(|spec| {
                let letter = if spec.short == '-' { "    ".to_owned() } else { format!("-{}, ", spec.short) };
                let gap = if spec.kind.is_empty() { "" } else { " " };
                (format!("  {letter}--{}{gap}{}", spec.long, spec.kind), spec.help)
            })
            .collect();
        text.push_str("\nOptions:\n");
        text.push_str(&two_columns(&heads));
    }
    output::write(text.as_bytes())
}

/// Prints the commands of one group.
pub fn print_group(session: &Session, group: &str, about: &str) -> io::Result<()> {
    let called = session.called;
    let mut rows: Vec<(String, &str)> = COMMANDS
        .iter()
        .flat_map(|list| list.iter())
        .filter_map(|command| {
            let name = command.names.iter().find_map(|name| name.strip_prefix(group)?.strip_prefix(' '))?;
            Some((format!("  {name}"), command.about))
        })
        .collect();
    rows.sort();
    let text = format!(
        "Usage:  {called} {group} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{called} {group} COMMAND --help' for more information on a command.\n",
        two_columns(&rows)
    );
    output::write(text.as_bytes())
}

/// Prints all commands.
pub fn print_overview(session: &Session) -> io::Result<()> {
    let called = session.called;
    let top = |command: &&Command| command.names.iter().find(|name| !name.contains(' ')).copied();
    let all: Vec<&Command> = COMMANDS.iter().flat_map(|list| list.iter()).collect();
    let row = |name: &str, about: &'static str| (format!("  {name}"), about);
    let common: Vec<_> = COMMON
        .iter()
        .filter_map(|name| all.iter().find(|c| c.names.contains(name)).map(|c| row(name, c.about)))
        .collect();
    let groups: Vec<_> = GROUPS.iter().map(|(name, about)| row(name, about)).collect();
    let mut rest: Vec<_> = all
        .iter()
        .filter_map(|c| top(c).filter(|name| !COMMON.contains(name)).map(|name| row(name, c.about)))
        .collect();
    rest.sort();
    let globals: Vec<(String, &str)> = super::dispatch::global_specs()
        .iter()
        .map(|spec| {
            let letter = if spec.short == '-' { "    ".to_owned() } else { format!("-{}, ", spec.short) };
            let gap = if spec.kind.is_empty() { "" } else { " " };
            (format!("  {letter}--{}{gap}{}", spec.long, spec.kind), spec.help)
        })
        .collect();
    let text = format!(
        "Usage:  {called} [OPTIONS] COMMAND\n\nContainers, images, builds and multi-container apps from one binary\n\n\
         Common Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\n\
         Run '{called} COMMAND --help' for more information on a command.\n",
        two_columns(&common),
        two_columns(&groups),
        two_columns(&rest),
        two_columns(&globals),
    );
    output::write(text.as_bytes())
}

/// Heads on the left, texts on the right, wrapped to the terminal.
fn two_columns(rows: &[(String, &str)]) -> String {
    let left = rows.iter().map(|(head, _)| head.chars().count()).max().unwrap_or(0) + 3;
    let width = output::terminal_width().unwrap_or(usize::MAX);
    let room = width.saturating_sub(left).max(MIN_HELP_WIDTH);
    let mut text = String::new();
    for (head, help) in rows {
        let mut head = format!("{head:left$}");
        for line in wrap(help, room) {
            text.push_str(format!("{head}{line}").trim_end());
            text.push('\n');
            head = " ".repeat(left);
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("starts with one line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
