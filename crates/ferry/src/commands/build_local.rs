//! What `/ferry/build` is asked: the folder is read where it lies; and `--check`, which builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_build::dockerfile::directive::CheckOptions;
use ferry_build::dockerfile::{self, SourceFile};
use ferry_build::git::GitAddress;
use ferry_build::lint;
use serde_json::{Value, json};

use super::build_reuse;
use super::build_source::Extra;
use super::builder::BuildFlags;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::{Session, environment};

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
    pub extra: Option<Extra>,
}

impl LocalContext {
    /// The Dockerfile, where it is on this machine, and its place.
    pub fn source_file(&self) -> Result<(SourceFile, PathBuf), Failure> {
        let path = self.place.folder()?.join(&self.dockerfile);
        let bytes = match &self.extra {
            Some(extra) => extra.text.clone(),
            None => fs::read(&path).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot read {}", path.display()))
            })?,
        };
        let shown = if self.extra.is_some() { "Dockerfile" } else { &self.dockerfile };
        Ok((SourceFile::new(shown, &bytes), path))
    }
}

/// Checks a Dockerfile and tells what was found in BuildKit's form.
pub fn check_as_json(context: &LocalContext, options: Option<&CheckOptions>) -> Outcome {
    let folder = context.place.folder()?;
    let (file, _) = context.source_file()?;
    let parsed = dockerfile::parse(&file).map_err(|error| {
        let place = ferry_build::build::BuildError::from(error).diagnostic();
        Failure::new(place.map(|place| place.render(&file, false)).unwrap_or_default())
    })?;
    let ignore = super::build_source::read_ignore(folder, &context.dockerfile)?;
    let findings = lint::lint(&file, &parsed, Some(&ignore), options);
    let warnings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let found = &finding.diagnostic;
            let end = file.line(found.span.end.saturating_sub(1).max(found.span.start));
            let range = json!({ "start": { "line": file.line(found.span.start) }, "end": { "line": end } });
            json!({
                "ruleName": found.rule,
                "url": found.rule.and_then(lint::page),
                "detail": found.message,
                "location": { "ranges": [range] },
            })
        })
        .collect();
    let sources = json!([{ "filename": file.name(), "data": STANDARD.encode(file.text()) }]);
    output::line(&format!("{:#}", json!({ "warnings": warnings, "sources": sources })))?;
    Ok(i32::from(!findings.is_empty()))
}

/// Checks a Dockerfile without building it: 1 when something was found, as linters do.
pub fn check(context: &LocalContext, fix: bool, options: Option<&CheckOptions>) -> Outcome {
    let folder = context.place.folder()?;
    let (file, path) = context.source_file()?;
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
    let findings = lint::lint(&file, &parsed, Some(&ignore), options);
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
            for finding in &findings {
                output::line(&excerpt(&file, finding))?;
            }
            Ok(1)
        }
    }
}

/// A finding as Docker prints it: the rule with its page, the words, the lines with those around them.
fn excerpt(file: &SourceFile, finding: &lint::Finding) -> String {
    let found = &finding.diagnostic;
    let rule = found.rule.unwrap_or_default();
    let page = lint::page(rule).map_or_else(String::new, |page| format!(" - {page}"));
    let mut text = format!("\nWARNING: {rule}{page}\n{}\n", found.message);
    let lines: Vec<&str> = file.text().split('\n').collect();
    let first = file.line(found.span.start);
    let last = file.line(found.span.end.saturating_sub(1).max(found.span.start)).min(lines.len());
    text.push_str(&format!("{}:{first}\n{RULER}\n", file.name()));
    let (begin, end) = around(first, last, lines.len());
    for number in begin..=end {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        text.push_str(&format!(" {number:3} | {mark} {}\n", lines[number - 1]));
    }
    text.push_str(RULER);
    if let Some(help) = &found.help {
        text.push_str(&format!("\nhelp: {help}"));
    }
    text
}

/// The lines to show: as many in front and behind as Docker shows.
fn around(first: usize, last: usize, count: usize) -> (usize, usize) {
    let wanted = if first == last { 4 } else { 2 };
    let (mut begin, mut end, mut added) = (first, last, 0);
    while added < wanted {
        if begin > 1 {
            begin -= 1;
            added += 1;
        }
        if end < count {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    (begin, end)
}

/// Above and below the lines of a finding.
const RULER: &str = "--------------------";

/// The body of `/ferry/build`.
pub fn request(context: &LocalContext, folders: &Folders, flags: &BuildFlags) -> Result<Value, Failure> {
    let remote = match &context.place {
        Place::Remote(url) => url.as_str(),
        Place::Folder(_) | Place::Nothing(_) => "",
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
        "Folders": folders.names,
        "Remote": remote,
        "DockerfileText": context.extra.as_ref().map(|extra| STANDARD.encode(&extra.text)),
        "IgnoreText": context.extra.as_ref().and_then(|extra| extra.ignore.as_deref()),
        "Secrets": secrets(&flags.secret)?,
        "Agents": agents(&flags.ssh)?,
        "Contexts": folders.images,
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

/// What a build takes its files from beside the Dockerfile: folders, which are opened here and handed over,
/// and images.
pub struct Folders {
    names: Vec<String>,
    /// The folders, in the order of their names.
    pub open: Arc<Vec<OwnedFd>>,
    images: BTreeMap<String, String>,
    /// Images that were loaded for this build alone.
    loaded: Vec<String>,
}

impl Folders {
    /// Opens the context and what `--build-context` names: `name=FOLDER`, an image (`docker-image://`), an image in a
    /// folder (`oci-layout://`), a repository or an archive's URL.
    pub async fn open(
        session: &Session,
        context: &LocalContext,
        flags: &BuildFlags,
    ) -> Result<Self, Failure> {
        let (mut names, mut open, mut images) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut loaded = Vec::new();
        if !matches!(context.place, Place::Remote(_)) {
            names.push("context".to_owned());
            open.push(open_folder(context.place.folder()?)?);
        }
        for flag in &flags.build_context {
            let (name, value) = flag.split_once('=').ok_or_else(|| {
                Failure::new(format!("invalid --build-context {flag:?}: it is not of the form name=value"))
            })?;
            let is_web = value.starts_with("https://") || value.starts_with("http://");
            if let Some(layout) = value.strip_prefix("oci-layout://") {
                let image = build_reuse::load_layout(session, layout).await?;
                images.insert(name.to_owned(), format!("docker-image://{image}"));
                loaded.push(image);
            } else if value.starts_with("docker-image://") || is_web || GitAddress::parse(value).is_some() {
                images.insert(name.to_owned(), value.to_owned());
            } else if !value.contains("://") {
                names.push(name.to_owned());
                open.push(open_folder(Path::new(value))?);
            } else {
                return Err(Failure::new(format!("invalid --build-context {flag:?}: its kind is not known")).hint(
                    "a folder, docker-image://IMAGE, oci-layout://FOLDER, a repository or the URL of an archive",
                ));
            }
        }
        Ok(Self { names, open: Arc::new(open), images, loaded })
    }

    /// Removes what was loaded for this build alone.
    pub async fn close(&self, session: &Session) -> Result<(), Failure> {
        build_reuse::unload(session, &self.loaded).await
    }
}

fn open_folder(path: &Path) -> Result<OwnedFd, Failure> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        Failure::from_error(&io::Error::from(errno))
            .context(&format!("cannot use the build context {}", path.display()))
    })
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
