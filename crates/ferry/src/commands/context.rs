//! `context ls/show/use`: which engine the command line talks to. Contexts are files that Docker's client
//! keeps; here they are read, and one of them chosen.

use serde_json::Value as Json;

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::output::format::{Choice, List};
use crate::session::{Session, default_socket, environment};
use crate::template::Value;

crate::flags! {
    /// Flags of `context ls`.
    pub struct LsFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only show context names";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(["context ls", "context list"], "[OPTIONS]", "List contexts", None, LsFlags, ls),
    command!(["context show"], "", "Print the name of the current context", None, NoFlags, show),
    command!(["context use"], "CONTEXT", "Set the current context", Exactly(1), NoFlags, use_context),
];

static LIST: List = List {
    columns: &[
        ("Name", "NAME"),
        ("Current", "CURRENT"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    default: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
};

fn current(session: &Session) -> String {
    let name = environment("DOCKER_CONTEXT").unwrap_or_else(|| session.config().current_context.clone());
    if name.is_empty() || environment("DOCKER_HOST").is_some() { "default".into() } else { name }
}

/// Name, description and address of every context kept.
fn contexts(session: &Session) -> Vec<(String, String, String)> {
    let socket = format!("unix://{}", default_socket().display());
    let default = environment("FERRY_HOST").or_else(|| environment("DOCKER_HOST")).unwrap_or(socket);
    let mut all = vec![("default".to_owned(), "The engine of this machine".to_owned(), default)];
    let folder = session.config().directory.join("contexts/meta");
    let mut kept = Vec::new();
    // No folder means no contexts.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("meta.json")) else { continue };
        let Ok(meta) = serde_json::from_slice::<Json>(&bytes) else { continue };
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let address = text(&meta["Endpoints"]["docker"]["Host"]);
        kept.push((text(&meta["Name"]), text(&meta["Metadata"]["Description"]), address));
    }
    kept.sort();
    all.extend(kept);
    all
}

/// Runs `context ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let current = current(session);
    let rows = contexts(session).into_iter().map(|(name, description, address)| {
        vec![
            ("Current", Value::Bool(name == current)),
            ("Name", Value::text(name)),
            ("Description", Value::text(description)),
            ("DockerEndpoint", Value::text(address)),
            ("Error", Value::text("")),
        ]
    });
    LIST.print(&Choice { format: flags.format, quiet: flags.quiet, ..Default::default() }, rows.collect())?;
    Ok(0)
}

/// Runs `context show`.
pub async fn show(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    output::line(&current(session))?;
    Ok(0)
}

/// Runs `context use`.
pub async fn use_context(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    if !contexts(session).iter().any(|(known, _, _)| known == name) {
        return Err(
            Failure::new(format!("context {name:?}: not found")).hint("'context ls' lists what there is")
        );
    }
    session.config().edit(|map| {
        match name.as_str() {
            "default" => map.remove("currentContext"),
            name => map.insert("currentContext".into(), name.into()),
        };
    })?;
    output::line(name)?;
    output::note(&format!("Current context is now {name:?}"));
    Ok(0)
}
