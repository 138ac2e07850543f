//! Builds of local folders through `/ferry/build`: the folder is read where it lies, progress comes as
//! events, the Dockerfile can be checked first, and results can go to files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::Call;
use ferry_api::client::Response;
use ferry_build::dockerfile::{self, SourceFile};
use ferry_build::lint;
use serde_json::{Value, json};

use super::builder::BuildFlags;
use crate::failure::{Failure, Origin, Outcome};
use crate::output;
use crate::session::{Session, environment};

/// Where a folder's build takes its parts from.
pub struct LocalContext {
    /// The folder.
    pub folder: PathBuf,
    /// The Dockerfile's name in it.
    pub dockerfile: String,
    /// A Dockerfile from elsewhere.
    pub extra: Option<Vec<u8>>,
}

/// Checks a Dockerfile without building it: 1 when something was found, as linters do.
pub fn check(context: &LocalContext, fix: bool) -> Outcome {
    let path = context.folder.join(&context.dockerfile);
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
    let ignore = super::builder::read_ignore(&context.folder, &context.dockerfile)?;
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
    let folder = fs::canonicalize(&context.folder)?;
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

/// How a build's events are shown.
pub struct Shown {
    /// Nothing but the result.
    pub quiet: bool,
    /// Say why steps were not found in the cache.
    pub why_miss: bool,
}

/// Shows events to the end; gives the image's id.
pub async fn show(response: Response, shown: &Shown) -> Result<String, Failure> {
    let mut lines = response.json_lines::<Value>();
    let mut screen = Screen::default();
    let mut id = String::new();
    while let Some(event) = lines.next().await? {
        if let Some(message) = event["error"].as_str() {
            return Err(Failure { origin: Origin::Engine, ..Failure::new(message) });
        }
        if let Some(found) = event["aux"]["ID"].as_str() {
            found.clone_into(&mut id);
        }
        if !shown.quiet {
            screen.show(&event, shown)?;
        }
    }
    Ok(id)
}

/// One line per event; lines of different steps carry their step's number.
#[derive(Default)]
struct Screen {
    /// Steps by their number in the graph, in the order in which they were first shown.
    numbers: HashMap<u64, usize>,
    /// Output of a step that does not end with its line yet.
    partial: HashMap<u64, String>,
}

impl Screen {
    fn show(&mut self, event: &Value, shown: &Shown) -> io::Result<()> {
        let mut out = io::stderr().lock();
        if let Some(text) = event["stream"].as_str() {
            return match text.starts_with("Successfully") {
                true => Ok(()),
                false => out.write_all(text.as_bytes()),
            };
        }
        if let (Some(status), id) = (event["status"].as_str(), event["id"].as_str().unwrap_or_default()) {
            // Figures of a pull are for terminals that can be drawn over; its turns are enough here.
            return match event["progress"].is_string() {
                true => Ok(()),
                false => writeln!(out, "{id}{}{status}", if id.is_empty() { "" } else { ": " }),
            };
        }
        let Some(step) = event["Step"]["Number"].as_u64() else { return Ok(()) };
        let name = event["Step"]["Name"].as_str().unwrap_or_default();
        // What the builder does for itself interests nobody unless it takes time or fails.
        let internal = name.starts_with("[internal]");
        let known = self.numbers.contains_key(&step);
        let count = self.numbers.len() + 1;
        let number = *self.numbers.entry(step).or_insert(count);
        match event["State"].as_str().unwrap_or_default() {
            "started" => writeln!(out, "#{number} {name}"),
            "cached" if internal => Ok(()),
            "cached" => writeln!(out, "#{number} {name}\n#{number} CACHED\n"),
            "done" => writeln!(out, "#{number} DONE {:.1}s\n", event["Seconds"].as_f64().unwrap_or(0.0)),
            "failed" => {
                self.flush(step, number, &mut out)?;
                writeln!(out, "#{number} FAILED {:.1}s\n", event["Seconds"].as_f64().unwrap_or(0.0))
            }
            "missed" if shown.why_miss => {
                let reasons: Vec<&str> =
                    event["Reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                writeln!(out, "#{number} not in the cache: {}", reasons.join(", "))
            }
            "log" => {
                if !known {
                    writeln!(out, "#{number} {name}")?;
                }
                self.log(step, number, event["Text"].as_str().unwrap_or_default(), &mut out)
            }
            _ => Ok(()),
        }
    }

    fn log(&mut self, step: u64, number: usize, text: &str, out: &mut impl io::Write) -> io::Result<()> {
        let partial = self.partial.entry(step).or_default();
        partial.push_str(text);
        while let Some(end) = partial.find('\n') {
            let line: String = partial.drain(..=end).collect();
            writeln!(out, "#{number} {}", line.trim_end_matches(['\n', '\r']))?;
        }
        Ok(())
    }

    fn flush(&mut self, step: u64, number: usize, out: &mut impl io::Write) -> io::Result<()> {
        match self.partial.remove(&step) {
            Some(rest) if !rest.is_empty() => writeln!(out, "#{number} {rest}"),
            _ => Ok(()),
        }
    }
}

/// Where a result goes beside the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// The image stays in the store: always done.
    Image,
    /// The files, into a folder.
    Folder(PathBuf),
    /// The files, as a tar; `-` is stdout.
    Tar(PathBuf),
    /// The image as an archive that `load` reads, which is an OCI layout too.
    Archive(PathBuf),
}

impl Export {
    /// Reads `--output`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Tar("-".into()));
        }
        if !text.contains('=') {
            return Ok(Self::Folder(text.into()));
        }
        let fields: HashMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
        let refuse = |reason: &str| Failure::new(format!("invalid --output {text:?}: {reason}"));
        let target = fields.get("dest").map(PathBuf::from);
        let needed = |target: Option<PathBuf>| target.ok_or_else(|| refuse("there is no dest="));
        match fields.get("type").copied().unwrap_or("local") {
            "local" => needed(target).map(Self::Folder),
            "tar" => needed(target).map(Self::Tar),
            "oci" => needed(target).map(Self::Archive),
            "docker" => Ok(target.map_or(Self::Image, Self::Archive)),
            "image" => Ok(Self::Image),
            other => Err(refuse(&format!("type {other:?} is none of local, tar, oci, docker, image"))),
        }
    }
}

/// Writes a result to where it was asked for.
pub async fn export(session: &Session, id: &str, export: &Export) -> Result<(), Failure> {
    match export {
        Export::Image => Ok(()),
        Export::Archive(path) => {
            let answer = session.engine().await?.call(Call::get("/images/get").query("names", id)).await?;
            save(answer, path).await
        }
        Export::Tar(path) => files(session, id, path).await,
        Export::Folder(folder) => {
            let packed = tempfile::NamedTempFile::new()?;
            files(session, id, packed.path()).await?;
            fs::create_dir_all(folder)?;
            unpack(packed.path(), folder).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot write to {}", folder.display()))
            })
        }
    }
}

/// The files of an image: those of a container of it that never runs.
async fn files(session: &Session, id: &str, path: &Path) -> Result<(), Failure> {
    let engine = session.engine().await?;
    let create = Call::post("/containers/create").json(&json!({ "Image": id, "Cmd": ["-"] }));
    let created: Value = engine.call(create).await?.json().await?;
    let container = created["Id"].as_str().unwrap_or_default().to_owned();
    let exported = async {
        let answer = engine.call(Call::get(format!("/containers/{container}/export"))).await?;
        save(answer, path).await
    };
    let result = exported.await;
    engine
        .call(Call::delete(format!("/containers/{container}")).query("force", "1"))
        .await?
        .discard()
        .await?;
    result
}

async fn save(mut answer: Response, path: &Path) -> Result<(), Failure> {
    let mut target: Box<dyn io::Write> = match path == Path::new("-") {
        true => Box::new(io::stdout().lock()),
        false => Box::new(fs::File::create(path).map_err(|error| {
            Failure::from_error(&error).context(&format!("cannot create {}", path.display()))
        })?),
    };
    while let Some(piece) = answer.chunk().await? {
        target.write_all(&piece)?;
    }
    Ok(target.flush()?)
}

/// Unpacks with the rights of whoever runs this; what only root may make is left out.
fn unpack(archive: &Path, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(fs::File::open(archive)?);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() {
            continue;
        }
        entry.unpack_in(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        for (text, wanted) in [
            ("out", Export::Folder("out".into())),
            ("-", Export::Tar("-".into())),
            ("type=local,dest=x", Export::Folder("x".into())),
            ("type=tar,dest=x.tar", Export::Tar("x.tar".into())),
            ("type=oci,dest=x", Export::Archive("x".into())),
            ("type=docker", Export::Image),
        ] {
            assert_eq!(Export::parse(text).unwrap(), wanted);
        }
        assert!(Export::parse("type=local").is_err());
        assert!(Export::parse("type=moon,dest=x").is_err());
    }

    #[test]
    fn secrets_come_from_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret").unwrap();
        let flag = format!("id=token,src={}", file.path().display());
        assert_eq!(secrets(&[flag]).unwrap()["token"], STANDARD.encode("s3cret"));
        assert!(secrets(&["src=x".to_owned()]).is_err());
    }
}
