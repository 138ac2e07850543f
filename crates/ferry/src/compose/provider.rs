//! `provider`: services that a program outside of the engine provides, a database in a cloud for one.
//!
//! The program is called as Compose's specification says: `TYPE compose --project-name P up --OPTION=VALUE SERVICE`,
//! and `down` likewise. It talks in lines of JSON; with `setenv` it gives variables to the services that need it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ferry_compose::apply::{Phase, Progress as _};
use ferry_compose::model::Service;
use ferry_compose::target::Target;
use ferry_compose::tree::{Mapping, Node, Value};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::context::Compose;
use super::progress::Printer;
use crate::failure::Failure;
use crate::output;

/// One line of a provider.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

/// Variables for a service's dependents.
type Variables = BTreeMap<String, String>;

/// Brings the selected services up that have a provider; what they give becomes part of their dependents.
pub async fn up(
    compose: &Compose,
    target: Target,
    selected: &[String],
    printer: &Printer,
) -> Result<Target, Failure> {
    let mut given: BTreeMap<String, Variables> = BTreeMap::new();
    for name in target.in_dependency_order() {
        let Some(service) = target.services.get(name) else { continue };
        if service.provider.is_none() || !selected.iter().any(|one| one == name) {
            continue;
        }
        let subject = format!("Service {name}");
        printer.state(&subject, "Creating", Phase::Working);
        let found = call(&target, name, service, "up", printer).await;
        let phase = if found.is_ok() { Phase::Done } else { Phase::Failed };
        printer.state(&subject, if found.is_ok() { "Created" } else { "Error" }, phase);
        let found = found?;
        for (dependent, other) in &target.services {
            if other.depends_on.contains_key(name) {
                given.entry(dependent.clone()).or_default().extend(found.clone());
            }
        }
    }
    if given.is_empty() {
        return Ok(target);
    }
    let mut project = target.project;
    for (service, variables) in given {
        set_variables(&mut project.tree, &service, variables);
    }
    Target::new(project, compose.separator()).map_err(|error| Failure::from_error(&error))
}

/// Takes down what providers made for the services.
pub async fn down(target: &Target, services: &[String], printer: &Printer) -> Result<(), Failure> {
    for (name, service) in &target.services {
        if service.provider.is_some() && (services.is_empty() || services.contains(name)) {
            call(target, name, service, "down", printer).await?;
            printer.state(&format!("Service {name}"), "Removed", Phase::Done);
        }
    }
    Ok(())
}

fn set_variables(tree: &mut Node, service: &str, variables: Variables) {
    let services = tree.get_mut("services").and_then(Node::as_mapping_mut);
    let Some(service) = services.and_then(|all| all.get_mut(service)).and_then(Node::as_mapping_mut) else {
        return;
    };
    let environment =
        service.entry("environment".to_owned()).or_insert_with(|| Node::derived(Mapping::new()));
    if let Some(environment) = environment.as_mapping_mut() {
        for (key, value) in variables {
            environment.insert(key, Node::derived(Value::String(value)));
        }
    }
}

async fn call(
    target: &Target,
    name: &str,
    service: &Service,
    verb: &str,
    printer: &Printer,
) -> Result<Variables, Failure> {
    let Some(provider) = &service.provider else { return Ok(Variables::new()) };
    let program = find(&provider.kind, &target.project.directory).ok_or_else(|| {
        Failure::new(format!("the provider \"{}\" of service \"{name}\" is not there", provider.kind))
            .hint(format!("install a program \"docker-{0}\" or \"{0}\" in a folder of PATH", provider.kind))
    })?;
    let mut command = Command::new(&program);
    command.args(["compose", "--project-name", &target.project.name, verb]);
    for (key, value) in &provider.options {
        for value in values(value) {
            command.arg(format!("--{key}={value}"));
        }
    }
    let variables = target.project.environment.iter().map(|(key, entry)| (key, entry.value.as_str()));
    command.arg(name).envs(variables).current_dir(&target.project.directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let failed = |error| Failure::from(error).context(&format!("cannot run {}", program.display()));
    let mut child = command.spawn().map_err(failed)?;
    let mut variables = Variables::new();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            read_line(&line, name, &mut variables, printer)?;
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        return Err(Failure::new(format!("the provider of service \"{name}\" failed: {status}")));
    }
    Ok(variables)
}

/// An option is one value or a list of them.
fn values(value: &Json) -> Vec<String> {
    match value {
        Json::Array(items) => items.iter().flat_map(values).collect(),
        Json::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn read_line(line: &str, name: &str, variables: &mut Variables, printer: &Printer) -> Result<(), Failure> {
    let Ok(line) = serde_json::from_str::<Line>(line) else {
        output::note(&format!("{name}: {line}"));
        return Ok(());
    };
    match line.kind.as_str() {
        "error" => {
            return Err(Failure::new(format!("the provider of service \"{name}\" says: {}", line.message)));
        }
        "info" => printer.state(&format!("Service {name}"), &line.message, Phase::Working),
        "setenv" | "rawsetenv" => {
            let pair = line.message.split_once('=');
            let (key, value) = pair.ok_or_else(|| {
                Failure::new(format!(
                    "the provider of service \"{name}\" sets \"{}\", which is no KEY=VALUE",
                    line.message
                ))
            })?;
            let own = name.to_uppercase().replace('-', "_");
            let key = if line.kind == "setenv" { format!("{own}_{key}") } else { key.to_owned() };
            variables.insert(key, value.to_owned());
        }
        // `debug`, and what later versions may say.
        _ => {}
    }
    Ok(())
}

/// A path, or a program of PATH, a docker CLI plugin's name first.
fn find(kind: &str, directory: &Path) -> Option<PathBuf> {
    if kind.contains('/') {
        return Some(directory.join(kind)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    [format!("docker-{kind}"), kind.to_owned()]
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
}
