//! `completion`: scripts for shells, made from the table of commands.

use std::collections::BTreeMap;

use crate::cli::Command;
use crate::command;
use crate::commands::COMMANDS as ALL;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::Session;

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["completion"],
    "bash|zsh|fish",
    "Generate the completion script for a shell",
    Exactly(1),
    NoFlags,
    completion
)];

/// Runs `completion`.
pub async fn completion(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let called = session.called;
    let text = match arguments[0].as_str() {
        "bash" => bash(called),
        // zsh runs bash's completions.
        "zsh" => format!("#compdef {called}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(called)),
        "fish" => fish(called),
        other => {
            return Err(Failure::new(format!("unsupported shell type {other:?}"))
                .hint("bash, zsh and fish are known"));
        }
    };
    output::write(text.as_bytes())?;
    Ok(0)
}

/// First words, and what may follow each path.
fn words() -> BTreeMap<String, Vec<String>> {
    let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for command in ALL.iter().flat_map(|list| list.iter()) {
        for name in command.names {
            let (parent, word) = name.rsplit_once(' ').unwrap_or(("", name));
            words.entry(parent.to_owned()).or_default().push(word.to_owned());
            if !parent.is_empty() {
                let top = words.entry(String::new()).or_default();
                if !top.iter().any(|known| known == parent) {
                    top.push(parent.to_owned());
                }
            }
            let flags = (command.specs)().into_iter().map(|spec| format!("--{}", spec.long));
            words.entry((*name).to_owned()).or_default().extend(flags);
        }
    }
    words
}

/// What an argument of a command names.
fn names_of(path: &str) -> Option<&'static str> {
    let running = ["stop", "restart", "kill", "exec", "attach", "pause", "top", "stats", "port", "logs"];
    let any =
        ["start", "rm", "rename", "wait", "cp", "diff", "export", "commit", "inspect", "update", "unpause"];
    let images = ["run", "create", "rmi", "tag", "save", "history", "push"];
    let word = path.rsplit(' ').next().unwrap_or(path);
    match path.split_once(' ').map(|(group, _)| group) {
        Some("image") => Some("images --format '{{.Repository}}:{{.Tag}}'"),
        Some("volume") => Some("volume ls -q"),
        Some("network") => Some("network ls --format '{{.Name}}'"),
        _ if running.contains(&word) => Some("ps --format '{{.Names}}'"),
        _ if any.contains(&word) => Some("ps -a --format '{{.Names}}'"),
        _ if images.contains(&word) => Some("images --format '{{.Repository}}:{{.Tag}}'"),
        _ => None,
    }
}

fn bash(called: &str) -> String {
    let mut cases = String::new();
    for (path, list) in words() {
        let names = match names_of(&path) {
            Some(listing) => format!(" names=$({called} {listing} 2>/dev/null)"),
            None => String::new(),
        };
        cases.push_str(&format!("        '{path}') words='{}';{names} ;;\n", list.join(" ")));
    }
    format!(
        "_{called}() {{\n    local current=\"${{COMP_WORDS[COMP_CWORD]}}\" path='' word words='' names=''\n    \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        case \"$word\" in -*) continue ;; esac\n        \
         case \"$path\" in '') path=\"$word\" ;; container|image|volume|network|system|builder|context|engine) path=\"$path $word\" ;; esac\n    \
         done\n    case \"$path\" in\n{cases}    esac\n    \
         case \"$current\" in -*) names='' ;; *) [ -n \"$names\" ] && words='' ;; esac\n    \
         COMPREPLY=($(compgen -W \"$words $names\" -- \"$current\"))\n    \
         [ ${{#COMPREPLY[@]}} -eq 0 ] && COMPREPLY=($(compgen -f -- \"$current\"))\n}}\n\
         complete -o nospace -o filenames -F _{called} {called} 2>/dev/null || complete -F _{called} {called}\n"
    )
    .replace("complete -o nospace -o filenames -F", "complete -F")
}

fn fish(called: &str) -> String {
    let mut text = format!("complete -c {called} -f\n");
    for command in ALL.iter().flat_map(|list| list.iter()) {
        for name in command.names {
            let condition = match name.split_once(' ') {
                None => {
                    text.push_str(&format!(
                        "complete -c {called} -n __fish_use_subcommand -a {name} -d '{}'\n",
                        command.about.replace('\'', "\\'")
                    ));
                    format!("__fish_seen_subcommand_from {name}")
                }
                Some((group, word)) => {
                    text.push_str(&format!(
                        "complete -c {called} -n '__fish_seen_subcommand_from {group}' -a {word} -d '{}'\n",
                        command.about.replace('\'', "\\'")
                    ));
                    format!("__fish_seen_subcommand_from {group}; and __fish_seen_subcommand_from {word}")
                }
            };
            for spec in (command.specs)() {
                let letter = if spec.short == '-' { String::new() } else { format!(" -s {}", spec.short) };
                let value = if spec.is_switch { "" } else { " -r" };
                text.push_str(&format!(
                    "complete -c {called} -n '{condition}' -l {}{letter}{value}\n",
                    spec.long
                ));
            }
            if let Some(listing) = names_of(name) {
                text.push_str(&format!(
                    "complete -c {called} -n '{condition}' -a \"({called} {listing} 2>/dev/null)\"\n"
                ));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_offered() {
        let words = words();
        for word in ["run", "container", "images", "network", "completion"] {
            assert!(words[""].iter().any(|known| known == word), "{word}");
        }
        assert!(words["run"].contains(&"--env-file".to_owned()));
        assert!(bash("ferry").contains("'container ls')") && fish("ferry").contains("-l env-file"));
    }
}
