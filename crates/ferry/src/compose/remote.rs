//! Compose files that are elsewhere: in a Git repository, or an OCI artifact on a registry.
//!
//! What is fetched is kept under its commit or digest (`$XDG_CACHE_HOME/ferry/compose`), so a file that did not change
//! is fetched once, and the names of the projects in it stay the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::artifact::Artifact;
use ferry_build::git::GitAddress;

use super::context::Compose;
use crate::commands::image::manifest;
use crate::failure::Failure;
use crate::session::environment;

/// The kind of artifact that `publish` makes.
pub const PROJECT_TYPE: &str = "application/vnd.docker.compose.project";
/// The same in the form of version 1.0 of OCI's specification: the type of its configuration.
pub const OLD_PROJECT_TYPE: &str = "application/vnd.docker.compose.config.empty.v1+json";
/// A Compose file in it.
pub const FILE_TYPE: &str = "application/vnd.docker.compose.file+yaml";
/// An env file in it.
pub const ENV_TYPE: &str = "application/vnd.docker.compose.envfile";
/// The annotation with a Compose file's name.
pub const FILE_NAME: &str = "com.docker.compose.file";
/// The annotation of a Compose file that others extend, so no part of the project by itself.
pub const EXTENDED: &str = "com.docker.compose.extends";
/// The annotation with an env file's name.
pub const ENV_NAME: &str = "com.docker.compose.envfile";

/// Fetches what a Compose file's name stands for: the file, or the folder where it is looked for.
///
/// The loader that asks is no async function, so the exchange runs on a thread with a connection of its own.
pub fn fetch(compose: &Compose, name: &str) -> Result<PathBuf, Failure> {
    let Some(reference) = name.strip_prefix("oci://") else {
        let address = GitAddress::parse(name).ok_or_else(|| {
            Failure::new(format!("{name} is neither a Git repository nor an OCI artifact"))
                .hint("write https://HOST/PATH.git#REF:FOLDER, or oci://REGISTRY/NAME:TAG")
        })?;
        return from_git(name, &address);
    };
    let target = compose.session.target()?;
    let auth = manifest::authorization(&compose.session, reference)?;
    let artifact = std::thread::scope(|scope| {
        let exchange = scope.spawn(|| -> Result<Artifact, Failure> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = crate::engine_process::reach(target).await?;
                let call = ferry_api::Call::get("/ferry/artifact")
                    .query("name", manifest::whole_name(reference))
                    .header("X-Registry-Auth", auth);
                Ok(client.call(call).await?.json().await?)
            })
        });
        exchange.join().unwrap_or_else(|_| Err(Failure::new("the exchange with the engine broke off")))
    })?;
    unpack(reference, &artifact)
}

/// Where fetched files are kept.
fn cache() -> PathBuf {
    let home = || environment("HOME").map(|home| Path::new(&home).join(".cache"));
    let root = environment("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    root.unwrap_or_else(std::env::temp_dir).join("ferry/compose")
}

/// A checkout of the commit that is asked for, made once.
fn from_git(name: &str, address: &GitAddress) -> Result<PathBuf, Failure> {
    let commit = commit_of(name, address)?;
    let folder = cache().join(&commit);
    if !folder.exists() {
        let partial = folder.with_extension(format!("partial.{}", std::process::id()));
        std::fs::create_dir_all(&partial)?;
        let fetched = git(&partial, &["init", "-q"])
            .and_then(|_| git(&partial, &["fetch", "-q", "--depth", "1", "--", &address.repository, &commit]))
            // Some servers give only what a name points at.
            .or_else(|_| {
                let reference = if address.reference.is_empty() { "HEAD" } else { &address.reference };
                git(&partial, &["fetch", "-q", "--depth", "1", "--", &address.repository, reference])
            })
            .and_then(|_| git(&partial, &["checkout", "-q", "FETCH_HEAD"]));
        let kept = fetched.and_then(|_| match std::fs::rename(&partial, &folder) {
            // Another command was faster.
            Err(_) if folder.exists() => Ok(()),
            renamed => Ok(renamed?),
        });
        std::fs::remove_dir_all(&partial).ok();
        kept.map_err(|failure| failure.context(&format!("cannot fetch {name}")))?;
    }
    let place = folder.join(&address.subdirectory);
    match place.exists() {
        true => Ok(place),
        false => Err(Failure::new(format!("{name}: the repository has no {}", address.subdirectory))),
    }
}

/// The commit that a branch, tag or `HEAD` is now.
fn commit_of(name: &str, address: &GitAddress) -> Result<String, Failure> {
    let reference = match address.reference.as_str() {
        "" => "HEAD",
        given => given,
    };
    if reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(reference.to_ascii_lowercase());
    }
    let listed = git(Path::new("/"), &["ls-remote", "-q", "--", &address.repository, reference])
        .map_err(|failure| failure.context(&format!("cannot fetch {name}")))?;
    let commit = listed.split_whitespace().next().filter(|commit| commit.len() >= 40);
    commit.map(str::to_owned).ok_or_else(|| {
        Failure::new(format!("{name}: the repository has no {reference}"))
            .hint(format!("see its names with: git ls-remote {}", address.repository))
    })
}

/// Runs git without questions, and without transports that run other programs; gives what it printed.
fn git(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.ext.allow=never", "-C"]).arg(folder).args(arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        Failure::from(error).context("cannot run git").hint("install git: apt-get install git")
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Failure::new(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

/// Writes an artifact's files side by side; gives the Compose file, in which several are documents of one.
fn unpack(reference: &str, artifact: &Artifact) -> Result<PathBuf, Failure> {
    if ![PROJECT_TYPE, OLD_PROJECT_TYPE].contains(&artifact.artifact_type.as_str()) {
        let kind = &artifact.artifact_type;
        return Err(Failure::new(format!("{reference} is no Compose project but of the type {kind}"))
            .hint("projects are put on registries by 'compose publish'"));
    }
    let folder = cache().join(artifact.digest.trim_start_matches("sha256:"));
    std::fs::create_dir_all(&folder)?;
    let mut project = String::new();
    for file in &artifact.files {
        let bytes = STANDARD.decode(&file.data).map_err(|error| Failure::new(error.to_string()))?;
        let named = |annotation: &str| file.annotations.get(annotation).map(String::as_str);
        match file.media_type.as_str() {
            FILE_TYPE if named(EXTENDED).is_none() => {
                if !project.is_empty() {
                    project.push_str("\n---\n");
                }
                project.push_str(&String::from_utf8_lossy(&bytes));
            }
            FILE_TYPE => write_beside(&folder, named(FILE_NAME), &bytes)?,
            ENV_TYPE => write_beside(&folder, named(ENV_NAME), &bytes)?,
            // Digests of images and what later versions add.
            _ => {}
        }
    }
    if project.is_empty() {
        return Err(Failure::new(format!("{reference} has no Compose file in it")));
    }
    let path = folder.join("compose.yaml");
    std::fs::write(&path, project)?;
    Ok(path)
}

/// Names come from a registry: they stay inside the folder.
fn write_beside(folder: &Path, name: Option<&str>, bytes: &[u8]) -> Result<(), Failure> {
    let name = name.map(|name| ferry_build::path::clean(name).trim_matches('/').to_owned());
    let Some(name) = name.filter(|name| !name.is_empty() && name != "compose.yaml") else { return Ok(()) };
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(std::fs::write(path, bytes)?)
}
