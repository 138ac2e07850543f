//! `context create`, `update` and `rm`.

use std::fs;

use ferry_api::Host;

use super::store::{Context, Store, TLS_FILES, check_name};
use super::{current, default_host};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `context create`.
    pub struct CreateFlags {
        default_stack_orchestrator: String = '-' "default-stack-orchestrator" <string> "Accepted for old scripts; there is nothing to choose";
        description: String = '-' "description" <string> "Description of the context";
        docker: Option<String> = '-' "docker" <stringToString> "The engine: host=ADDRESS[,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true] or from=CONTEXT";
        from: String = '-' "from" <string> "Create context from a named context";
    }
}

crate::flags! {
    /// Flags of `context update`.
    pub struct UpdateFlags {
        default_stack_orchestrator: String = '-' "default-stack-orchestrator" <string> "Accepted for old scripts; there is nothing to choose";
        description: Option<String> = '-' "description" <string> "Description of the context";
        docker: Option<String> = '-' "docker" <stringToString> "The engine: host=ADDRESS[,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true] or from=CONTEXT";
    }
}

crate::flags! {
    /// Flags of `context rm`.
    pub struct RmFlags {
        force: bool = 'f' "force" "Force the removal of a context in use";
    }
}

/// Runs `context create`.
pub async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    check_name(name)?;
    let store = Store::new(&session.config().directory);
    if store.has(name) {
        return Err(Failure::new(format!("context {name:?} already exists"))
            .hint(format!("change it with 'context update {name}', or remove it with 'context rm {name}'")));
    }
    let mut context = match flags.from.as_str() {
        "" => Context::default(),
        from => copy_of(session, &store, from)?,
    };
    if let Some(spec) = &flags.docker {
        context = endpoint(session, &store, spec, context)?;
    } else if flags.from.is_empty() {
        return Err(Failure::new("docker endpoint configuration is required")
            .hint(format!("'context create {name} --docker host=ssh://user@machine'")));
    }
    context.name.clone_from(name);
    if !flags.description.is_empty() {
        context.description = flags.description;
    }
    store.save(&context)?;
    output::line(name)?;
    output::note(&format!("Successfully created context {name:?}"));
    Ok(0)
}

/// Runs `context update`.
pub async fn update(session: &Session, flags: UpdateFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    check_name(name)?;
    let store = Store::new(&session.config().directory);
    let mut context = store.load(name)?;
    if let Some(description) = flags.description {
        context.description = description;
    }
    if let Some(spec) = &flags.docker {
        let fresh = Context { host: String::new(), skip_tls_verify: false, tls: Vec::new(), ..context };
        context = endpoint(session, &store, spec, fresh)?;
    }
    store.save(&context)?;
    output::line(name)?;
    output::note(&format!("Successfully updated context {name:?}"));
    Ok(0)
}

/// Runs `context rm`.
pub async fn rm(session: &Session, flags: RmFlags, names: Vec<String>) -> Outcome {
    let store = Store::new(&session.config().directory);
    let current = current(session);
    let mut failures = Vec::new();
    for name in &names {
        let in_use = *name == current;
        let refused = match name.as_str() {
            "default" => Some(Failure::new("context \"default\" cannot be removed")),
            _ if !store.has(name) && !flags.force => store.load(name).err(),
            _ if in_use && !flags.force => Some(
                Failure::new(format!("context {name:?} is in use, set -f flag to force remove"))
                    .hint("choose another one first: 'context use default'"),
            ),
            _ => None,
        };
        if let Some(failure) = refused {
            failures.push(failure);
            continue;
        }
        if in_use {
            session.config().edit(|map| {
                map.remove("currentContext");
            })?;
        }
        store.delete(name)?;
        output::line(name)?;
    }
    Failure::many(failures).map_or(Ok(0), Err)
}

/// A context's copy; the default one has the address in use.
fn copy_of(session: &Session, store: &Store, name: &str) -> Result<Context, Failure> {
    match name {
        "default" => Ok(Context { host: default_host(session), ..Context::default() }),
        name => store.load(name),
    }
}

/// Reads `--docker`.
fn endpoint(session: &Session, store: &Store, spec: &str, mut context: Context) -> Result<Context, Failure> {
    for pair in spec.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("--docker: {pair:?} is not of the form key=value")))?;
        let unquoted = value.trim_matches('"');
        match key.trim() {
            "host" => {
                Host::parse(unquoted).map_err(|error| {
                    Failure::from_error(&error).context("unable to create docker endpoint config")
                })?;
                context.host = unquoted.to_owned();
            }
            "from" => {
                let from = copy_of(session, store, unquoted)?;
                (context.host, context.skip_tls_verify, context.tls) =
                    (from.host, from.skip_tls_verify, from.tls);
            }
            "skip-tls-verify" => {
                context.skip_tls_verify =
                    matches!(unquoted.to_ascii_lowercase().as_str(), "true" | "1" | "t");
            }
            key @ ("ca" | "cert" | "key") => {
                let file =
                    TLS_FILES[["ca", "cert", "key"].iter().position(|known| *known == key).unwrap_or(0)];
                let bytes = fs::read(unquoted)
                    .map_err(|error| Failure::from(error).context(&format!("cannot read {unquoted}")))?;
                context.tls.retain(|(known, _)| known != file);
                context.tls.push((file.to_owned(), bytes));
            }
            key => {
                return Err(Failure::new(format!("unrecognized config key: {key}"))
                    .hint("host, ca, cert, key, skip-tls-verify and from are known"));
            }
        }
    }
    Ok(context)
}
