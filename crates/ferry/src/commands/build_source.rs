//! The argument of `build`: a folder, a repository or URL, or standard input; and the Dockerfile that goes with it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ferry_build::git::GitAddress;
use ferry_build::ignore::Ignore;

use super::builder::BuildFlags;
use crate::cli::nearest;
use crate::failure::Failure;
use crate::session::Session;

/// A context ready to be packed.
pub struct Context {
    /// The folder.
    pub folder: PathBuf,
    /// The Dockerfile's name in the archive.
    pub dockerfile: String,
    /// A Dockerfile that lies outside of the folder, or came from stdin.
    pub extra: Option<Extra>,
    /// What is left out.
    pub ignore: Ignore,
}

/// A Dockerfile from elsewhere.
#[derive(Debug, Clone)]
pub struct Extra {
    /// Its text.
    pub text: Vec<u8>,
    /// The text of the ignore file beside it, which goes before the context's.
    pub ignore: Option<String>,
}

/// What is sent.
pub enum Source {
    /// A folder of this machine.
    Folder(Context),
    /// A tar from stdin.
    Archive(Vec<u8>),
    /// A lone Dockerfile from stdin.
    Text(Vec<u8>),
    /// The engine fetches it.
    Remote(String),
}

/// The name that a Dockerfile from elsewhere has in the archive.
const EXTRA_NAME: &str = ".dockerfile.ferry";
/// Most that is read from stdin as a context: what does not fit belongs into a folder.
const MAX_STDIN: u64 = 2 * 1024 * 1024 * 1024;

/// Why there is nothing to build from, and what was probably meant.
fn missing_folder(session: &Session, argument: &str) -> Failure {
    let failure = Failure::new(format!("unable to prepare context: path {argument:?} not found"));
    let found: Vec<String> = fs::read_dir(".")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match nearest(argument.trim_end_matches('/'), found.iter().map(String::as_str)) {
        Some(close) => failure.hint(format!("did you mean '{close}'?")),
        None => failure.hint(format!(
            "the argument is the folder with the files to build from; for this one: {} build .",
            session.called
        )),
    }
}

/// Reads the argument of `build`.
pub fn source(session: &Session, flags: &BuildFlags, argument: &str) -> Result<Source, Failure> {
    let is_web = argument.starts_with("http://") || argument.starts_with("https://");
    if is_web || GitAddress::parse(argument).is_some() {
        return Ok(Source::Remote(argument.to_owned()));
    }
    if argument == "-" {
        if flags.file == "-" {
            return Err(Failure::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return from_stdin();
    }
    if argument.is_empty() {
        return Err(Failure::new("the path of the build context is empty (an unset variable?)"));
    }
    let folder = PathBuf::from(argument);
    let metadata = fs::metadata(&folder).map_err(|_| missing_folder(session, argument))?;
    if !metadata.is_dir() {
        return Err(Failure::new(format!(
            "unable to prepare context: {argument:?} is a file, and a folder is wanted"
        ))
        .hint(format!(
            "{} build -f {argument} {}",
            session.called,
            folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).display()
        )));
    }
    local(session, flags, folder)
}

fn local(session: &Session, flags: &BuildFlags, folder: PathBuf) -> Result<Source, Failure> {
    let (dockerfile, extra) = match flags.file.as_str() {
        "" => (default_dockerfile(session, &folder)?, None),
        "-" => {
            let mut text = Vec::new();
            io::stdin().take(MAX_STDIN).read_to_end(&mut text)?;
            (EXTRA_NAME.to_owned(), Some(Extra { text, ignore: None }))
        }
        file => named_dockerfile(&folder, file)?,
    };
    let ignore = match extra.as_ref().and_then(|extra| extra.ignore.as_deref()) {
        Some(text) => parse_ignore(&format!("{}.dockerignore", flags.file), text)?,
        None => read_ignore(&folder, &dockerfile)?,
    };
    Ok(Source::Folder(Context { folder, dockerfile, extra, ignore }))
}

fn default_dockerfile(session: &Session, folder: &Path) -> Result<String, Failure> {
    if folder.join("Dockerfile").is_file() {
        return Ok("Dockerfile".into());
    }
    let mut failure =
        Failure::new(format!("unable to prepare context: there is no Dockerfile in {}", folder.display()));
    let near = fs::read_dir(folder).ok().into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.to_lowercase().starts_with("dockerfile").then_some(name)
    });
    if let Some(name) = near {
        let file = folder.join(&name);
        failure = failure.hint(format!(
            "{name:?} is there: {} build -f {} {}",
            session.called,
            file.display(),
            folder.display()
        ));
    }
    Err(failure)
}

/// A Dockerfile named by `-f`: its path in the context, or its contents where it lies elsewhere.
fn named_dockerfile(folder: &Path, file: &str) -> Result<(String, Option<Extra>), Failure> {
    let failed = |error: io::Error| {
        Failure::from_error(&error)
            .context(&format!("unable to prepare context: cannot read the Dockerfile {file:?}"))
    };
    let found = [PathBuf::from(file), folder.join(file)].into_iter().find(|path| path.is_file());
    let Some(path) = found else {
        return Err(failed(io::ErrorKind::NotFound.into()));
    };
    let full = path.canonicalize().map_err(failed)?;
    let root = folder.canonicalize().map_err(failed)?;
    match full.strip_prefix(&root) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => {
            let mut beside = path.clone().into_os_string();
            beside.push(".dockerignore");
            let ignore = match fs::read_to_string(&beside) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let place = format!("cannot read {}", Path::new(&beside).display());
                    return Err(Failure::from_error(&error).context(&place));
                }
            };
            Ok((EXTRA_NAME.to_owned(), Some(Extra { text: fs::read(&path).map_err(failed)?, ignore })))
        }
    }
}

/// The Dockerfile's own `.dockerignore`, or the context's.
pub fn read_ignore(folder: &Path, dockerfile: &str) -> Result<Ignore, Failure> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        match fs::read_to_string(folder.join(&name)) {
            Ok(text) => return parse_ignore(&name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::from_error(&error).context(&format!("cannot read {name}"))),
        }
    }
    Ok(Ignore::default())
}

fn parse_ignore(name: &str, text: &str) -> Result<Ignore, Failure> {
    Ignore::parse(text).map_err(|error| Failure::from_error(&error).context(&format!("cannot use {name}")))
}

/// Stdin: an archive, packed or not, or a lone Dockerfile.
fn from_stdin() -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    io::stdin().take(MAX_STDIN).read_to_end(&mut bytes)?;
    let magic: [&[u8]; 4] =
        [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z'], &[0x28, 0xb5, 0x2f, 0xfd]];
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    if is_tar || magic.iter().any(|magic| bytes.starts_with(magic)) {
        return Ok(Source::Archive(bytes));
    }
    if bytes.is_empty() {
        return Err(Failure::new("the Dockerfile from stdin is empty"));
    }
    Ok(Source::Text(bytes))
}
