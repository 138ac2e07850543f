//! `state` and `list`: what containers there are and what they do.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Serialize;

use crate::Global;
use crate::arguments::{Flag, parse};
use crate::error::CliError;
use crate::passwd;
use crate::state::{Directory, State, Status};

const FLAGS: &[Flag] = &[Flag::value("format", "f"), Flag::switch("quiet", "q")];

/// A container as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl Shown {
    fn of(directory: &Directory, state: State) -> Result<Shown, CliError> {
        let status = directory.status(&state)?;
        Ok(Shown {
            oci_version: state.oci_version,
            id: state.id,
            pid: if status == Status::Stopped { 0 } else { state.init_process_pid },
            status: status.name(),
            bundle: state.bundle.display().to_string(),
            rootfs: state.rootfs.display().to_string(),
            created: state.created,
            annotations: state.annotations,
            owner: String::new(),
        })
    }
}

/// Runs `state`.
pub(crate) fn state(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(&[], words)?;
    let directory = Directory::open(&global.root, parsed.id("state")?)?;
    let shown = Shown::of(&directory, directory.read()?)?;
    let text = serde_json::to_string_pretty(&shown).expect("strings and numbers always serialize");
    print(&text)
}

/// Writes a text and a newline.
pub(crate) fn print(text: &str) -> Result<i32, CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(CliError::file("write to", "stdout"))?;
    Ok(0)
}

/// Runs `list`.
pub(crate) fn list(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let mut found = all(global)?;
    if parsed.has("quiet") {
        let ids: Vec<String> = found.into_iter().map(|shown| shown.id).collect();
        return if ids.is_empty() { Ok(0) } else { print(&ids.join("\n")) };
    }
    match parsed.value("format").unwrap_or("table") {
        "table" => print(table(&found).trim_end()),
        "json" if found.is_empty() => print("null"),
        "json" => {
            found.sort_by(|one, other| one.id.cmp(&other.id));
            print(&serde_json::to_string(&found).expect("strings and numbers always serialize"))
        }
        _ => Err(CliError::usage("invalid format option")),
    }
}

fn all(global: &Global) -> Result<Vec<Shown>, CliError> {
    let entries = match std::fs::read_dir(&global.root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CliError::file("list", &global.root)(error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        // One that is being made or deleted meanwhile is not there.
        let Ok(directory) = Directory::open(&global.root, &name.to_string_lossy()) else { continue };
        let Ok(state) = directory.read() else { continue };
        let mut shown = Shown::of(&directory, state)?;
        shown.owner = passwd::name(directory.owner());
        found.push(shown);
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(found)
}

fn table(found: &[Shown]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(found.iter().map(|one| {
        [
            one.id.clone(),
            one.pid.to_string(),
            one.status.to_owned(),
            one.bundle.clone(),
            one.created.clone(),
            one.owner.clone(),
        ]
    }));
    let widths: Vec<usize> = (0..6)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(9) + 3)
        .collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
