//! What `/ferry/build` is asked: the folder is read where it lies; and `--check`, which builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_build::dockerfile::{self, SourceFile};
use ferry_build::lint;
use serde_json::{Value, json};

use super::builder::BuildFlags;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::environment;

/// Where the files of a build are.
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// Fetched by the engine.
    Remote(String),
    /// There are none.
    Nothing(tempfile::TempDir),
}

impl Place {
    fn folder(&self) -> Result<&Path, Failure> {
        match self {
            Self::Folder(folder) => Ok(folder),
            Self::Nothing(folder) => Ok(folder.path()),
            Self::Remote(url) => Err(Failure::new(format!(
                "{url} is not on this machine, so that its Dockerfile cannot be checked"
            ))),
        }
    }
}

/// Where a build takes its parts from.
pub struct LocalContext {
    /// Where its files are.
    pub place: Place,
    /// The Dockerfile's name in it.
    pub dockerfile: String,
    /// A Dockerfile from elsewhere.
    pub extra: Option<Vec<u8>>,
}

/// Checks a Dockerfile without building it: 1 when something was found, as linters do.
pub fn check(context: &LocalContext, fix: bool) -> Outcome {
    let folder = context.place.folder()?;
    let path = folder.join(&context.dockerfile);
    let bytes = match &context.extra {
        Some(bytes) => bytes.clone(),
        None => fs::read(&path).map_err(|error| {
            Failure::from_error(&error).context(&format!("cannot read {}", path.display()))
        })?,
    };
    let file = SourceFile::new(context.dockerfile.clone(), &bytes);
    let color = io::stdout().is_terminal();
    let parsed = match dockerfile::parse(&file) {
        Ok(parsed) => parsed,
        Err(error) => {
            let place = ferry_build::build::BuildError::from(error).diagnostic();
            output::line(&place.map(|place| place.render(&file, color)).unwrap_or_default())?;
            return Ok(1);
        }
    };
    let ignore = super::build_source::read_ignore(folder, &context.dockerfile)?;
    let findings = lint::lint(&file, &parsed, Some(&ignore), None);
    for finding in &findings {
        output::line(&finding.diagnostic.render(&file, color))?;
        output::line("")?;
    }
    let mended = findings.iter().filter(|finding| finding.edit.is_some()).count();
    match (findings.len(), fix && context.extra.is_none(), lint::fix(&file, &findings)) {
        (0, ..) => {
            output::line("Check complete, no warnings found.")?;
            Ok(0)
        }
        (count, true, Some(text)) => {
            fs::write(&path, text).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot write {}", path.display()))
            })?;
            output::line(&format!("Mended {mended} of {count} warnings in {}.", path.display()))?;
            Ok(i32::from(mended < count))
        }
        (count, ..) => {
            let hint =
                if mended > 0 { format!(" ({mended} can be mended: --check --fix)") } else { String::new() };
            let plural = if count == 1 { "warning has" } else { "warnings have" };
            output::line(&format!("Check complete, {count} {plural} been found!{hint}"))?;
            Ok(1)
        }
    }
}

/// The body of `/ferry/build`.
pub fn request(context: &LocalContext, flags: &BuildFlags) -> Result<Value, Failure> {
    let (folder, remote) = match &context.place {
        Place::Remote(url) => (PathBuf::new(), url.as_str()),
        place => (fs::canonicalize(place.folder()?)?, ""),
    };
    let no_cache_filter: BTreeSet<&str> = flags
        .no_cache_filter
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|stage| !stage.is_empty())
        .collect();
    let epoch = match environment("SOURCE_DATE_EPOCH") {
        None => None,
        Some(text) => Some(
            text.parse::<i64>()
                .map_err(|_| Failure::new(format!("SOURCE_DATE_EPOCH is no number: {text:?}")))?,
        ),
    };
    Ok(json!({
        "Folder": folder,
        "Remote": remote,
        "DockerfileText": context.extra.as_ref().map(|bytes| STANDARD.encode(bytes)),
        "Secrets": secrets(&flags.secret)?,
        "Agents": agents(&flags.ssh)?,
        "Contexts": contexts(&flags.build_context)?,
        "NoCacheFilter": no_cache_filter,
        "Allow": flags.allow,
        "SourceDateEpoch": epoch,
    }))
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`
fn secrets(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut secrets = BTreeMap::new();
    for flag in flags {
        let fields: HashMap<&str, &str> = flag.split(',').filter_map(|field| field.split_once('=')).collect();
        let refuse = |reason: &str| Failure::new(format!("invalid --secret {flag:?}: {reason}"));
        let id = fields.get("id").ok_or_else(|| refuse("there is no id="))?;
        let source = fields.get("src").or_else(|| fields.get("source"));
        let variable = fields.get("env").copied().or((source.is_none()).then_some(*id));
        let bytes = match (source, variable) {
            (Some(path), _) => fs::read(path).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot read the secret {path}"))
            })?,
            (None, Some(name)) => match std::env::var(name) {
                Ok(value) => value.into_bytes(),
                // Without a source the secret is a variable's, else a file's of that name.
                Err(_) => fs::read(name)
                    .map_err(|_| refuse(&format!("there is neither a variable nor a file {name}")))?,
            },
            (None, None) => return Err(refuse("there is neither src= nor env=")),
        };
        secrets.insert((*id).to_owned(), STANDARD.encode(bytes));
    }
    Ok(secrets)
}

/// `default` or `id=SOCKET`
fn agents(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut agents = BTreeMap::new();
    for flag in flags {
        let (id, socket) = match flag.split_once('=') {
            Some((id, socket)) => (id, Some(socket.to_owned())),
            None => (flag.as_str(), environment("SSH_AUTH_SOCK")),
        };
        let socket = socket.ok_or_else(|| {
            Failure::new(format!("--ssh {flag}: no agent runs (SSH_AUTH_SOCK is not set)"))
                .hint("start one: eval $(ssh-agent) && ssh-add")
        })?;
        agents.insert(id.to_owned(), socket);
    }
    Ok(agents)
}

/// `name=FOLDER` or `name=docker-image://IMAGE`
fn contexts(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut contexts = BTreeMap::new();
    for flag in flags {
        let (name, value) = flag.split_once('=').ok_or_else(|| {
            Failure::new(format!("invalid --build-context {flag:?}: it is not of the form name=value"))
        })?;
        let value = match value.contains("://") {
            true if value.starts_with("docker-image://") => value.to_owned(),
            true => {
                return Err(Failure::new(format!(
                    "--build-context {flag:?}: only folders and docker-image:// are supported"
                )));
            }
            false => fs::canonicalize(value)
                .map_err(|error| {
                    Failure::from_error(&error).context(&format!("cannot use the build context {value}"))
                })?
                .display()
                .to_string(),
        };
        contexts.insert(name.to_owned(), value);
    }
    Ok(contexts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret").unwrap();
        let flag = format!("id=token,src={}", file.path().display());
        assert_eq!(secrets(&[flag]).unwrap()["token"], STANDARD.encode("s3cret"));
        assert!(secrets(&["src=x".to_owned()]).is_err());
    }
}
