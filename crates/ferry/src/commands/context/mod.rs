//! `context`: which engine the command line talks to. Contexts are the files that Docker's client keeps, so
//! both programs see the same ones.

mod carry;
mod change;
pub mod store;

use serde_json::{Value as Json, json};

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::output::format::{Choice, List};
use crate::session::{Session, default_socket, environment};
use crate::template::{Options, Template, Value};
use store::{Context, Store};

crate::flags! {
    /// Flags of `context ls`.
    pub struct LsFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only show context names";
    }
}

crate::flags! {
    /// Flags of `context inspect`.
    pub struct InspectFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["context create"],
        "[OPTIONS] CONTEXT",
        "Create a context",
        Exactly(1),
        change::CreateFlags,
        change::create
    ),
    command!(
        ["context export"],
        "CONTEXT [FILE|-]",
        "Export a context to a tar archive FILE or a tar stream on STDOUT",
        Between(1, 2),
        NoFlags,
        carry::export
    ),
    command!(
        ["context import"],
        "CONTEXT FILE|-",
        "Import a context from a tar file",
        Exactly(2),
        NoFlags,
        carry::import
    ),
    command!(
        ["context inspect"],
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        AtLeast(0),
        InspectFlags,
        inspect
    ),
    command!(["context ls", "context list"], "[OPTIONS]", "List contexts", None, LsFlags, ls),
    command!(
        ["context rm", "context remove"],
        "[OPTIONS] CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        AtLeast(1),
        change::RmFlags,
        change::rm
    ),
    command!(["context show"], "", "Print the name of the current context", None, NoFlags, show),
    command!(
        ["context update"],
        "[OPTIONS] CONTEXT",
        "Update a context",
        Exactly(1),
        change::UpdateFlags,
        change::update
    ),
    command!(["context use"], "CONTEXT", "Set the current context", Exactly(1), NoFlags, use_context),
];

static LIST: List = List {
    columns: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    default: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
};

/// The longest description and error that the table shows.
const WIDTH: usize = 50;

/// The context in use; the environment's address is the default one's.
fn current(session: &Session) -> String {
    if let Some(name) = session.asked_context() {
        return name.to_owned();
    }
    if environment("DOCKER_HOST").is_some() || environment("FERRY_HOST").is_some() {
        return "default".into();
    }
    let name = environment("DOCKER_CONTEXT").unwrap_or_else(|| session.config().current_context.clone());
    if name.is_empty() { "default".into() } else { name }
}

/// The address of the default context.
fn default_host(session: &Session) -> String {
    let named = environment("FERRY_HOST").or_else(|| environment("DOCKER_HOST"));
    match session.asked_host().map(str::to_owned).or(named) {
        Some(host) => host,
        None => format!("unix://{}", default_socket().display()),
    }
}

/// Runs `context ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let current = current(session);
    let default = Context {
        name: "default".into(),
        description: "Current DOCKER_HOST based configuration".into(),
        host: default_host(session),
        ..Context::default()
    };
    let mut all: Vec<(Context, String)> = vec![(default, String::new())];
    all.extend(
        Store::new(&session.config().directory).list().into_iter().map(|context| (context, String::new())),
    );
    if !all.iter().any(|(context, _)| context.name == current) {
        let missing = Context { name: current.clone(), ..Context::default() };
        all.push((missing, "context not found".into()));
    }
    all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let rows = all.into_iter().map(|(context, error)| {
        let short = |text: &str| output::format::ellipsis(text, WIDTH);
        vec![
            ("Current", Value::Bool(context.name == current)),
            ("Description", Value::text(short(&context.description))),
            ("DockerEndpoint", Value::text(context.host)),
            ("Error", Value::text(short(&error))),
            ("Name", Value::text(context.name)),
        ]
    });
    LIST.print(&Choice { format: flags.format, quiet: flags.quiet, ..Default::default() }, rows.collect())?;
    if environment("DOCKER_HOST").is_some() {
        output::note(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(0)
}

/// Runs `context show`.
pub async fn show(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    output::line(&current(session))?;
    Ok(0)
}

/// Runs `context inspect`.
pub async fn inspect(session: &Session, flags: InspectFlags, names: Vec<String>) -> Outcome {
    let names = if names.is_empty() { vec![current(session)] } else { names };
    let store = Store::new(&session.config().directory);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &names {
        match shown(session, &store, name) {
            Ok(json) => found.push(json),
            Err(failure) => failures.push(failure),
        }
    }
    match flags.format.as_str() {
        "" => {
            let text =
                serde_json_pretty(&Json::Array(found))?.replace('<', "\\u003c").replace('>', "\\u003e");
            output::line(&text)?;
        }
        "json" => output::line(&Json::Array(found).to_string())?,
        format => {
            let failed =
                |error: &dyn std::error::Error| Failure::new(format!("template parsing error: {error}"));
            let template = Template::parse(format).map_err(|error| failed(&error))?;
            let options = Options { missing_key_is_error: true, header: false };
            for json in &found {
                let text =
                    template.render_with(&Value::from(json), options).map_err(|error| failed(&error))?;
                output::line(&text)?;
            }
        }
    }
    Failure::many(failures).map_or(Ok(0), Err)
}

fn serde_json_pretty(json: &Json) -> Result<String, Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(json, &mut serializer).map_err(|error| Failure::from_error(&error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What `inspect` shows of a context.
fn shown(session: &Session, store: &Store, name: &str) -> Result<Json, Failure> {
    let memory = || "<IN MEMORY>".to_owned();
    let (context, meta, tls) = match name {
        "default" => {
            let context = Context { name: name.into(), host: default_host(session), ..Context::default() };
            (context, memory(), memory())
        }
        name => {
            let folder = |path: std::path::PathBuf| path.display().to_string();
            (store.load(name)?, folder(store.meta_folder(name)), folder(store.tls_folder(name)))
        }
    };
    let files: Vec<&str> = context.tls.iter().map(|(file, _)| file.as_str()).collect();
    let mut json = context.meta();
    json["TLSMaterial"] = if files.is_empty() { json!({}) } else { json!({"docker": files}) };
    json["Storage"] = json!({"MetadataPath": meta, "TLSPath": tls});
    Ok(json)
}

/// Runs `context use`.
pub async fn use_context(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    if name != "default" {
        Store::new(&session.config().directory).load(name)?;
    }
    session.config().edit(|map| {
        match name.as_str() {
            "default" => map.remove("currentContext"),
            name => map.insert("currentContext".into(), name.into()),
        };
    })?;
    output::line(name)?;
    output::note(&format!("Current context is now {name:?}"));
    if let Some(host) = environment("DOCKER_HOST") {
        output::note(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset DOCKER_HOST environment variable (now {host})."
        ));
    }
    Ok(0)
}
