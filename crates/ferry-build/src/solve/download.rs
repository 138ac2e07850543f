//! What `ADD https://..` and `ADD URL.git` name: a download becomes a folder that is read like a context, so
//! that a step is found in the cache by what the server sends today. A download whose digest stands in the
//! Dockerfile becomes a tree with one file instead, and is fetched once.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ferry_oci::Digest;
use ferry_store::{LayerRecord, Scratch, Store};
use ferry_sys::tree::open_in_root;

use super::error::{SolveError, StepFailure};
use super::files::StepSnapshot;
use super::inputs::{Downloads, Folder};
use super::run::blocking;
use crate::fileop::{self, FileError};
use crate::git::GitAddress;
use crate::ignore::Ignore;
use crate::llb::ops::{Kind, SourceOp};
use crate::llb::{Graph, VertexId};

/// The attribute with the name of the downloaded file.
pub const FILE_NAME: &str = "http.filename";
/// The attribute with the digest of the downloaded file.
pub const CHECKSUM: &str = "http.checksum";
/// The attribute that marks repositories; its value says whether `.git` is kept.
pub const GIT: &str = "git.keep";

/// Whether a source is fetched before anything else is done.
pub fn is_fetched_first(source: &SourceOp) -> bool {
    let web = source.identifier.starts_with("http://") || source.identifier.starts_with("https://");
    source.attrs.contains_key(GIT) || web && !source.attrs.contains_key(CHECKSUM)
}

/// Fetched folders by identifier, and the directories they are in.
#[derive(Default)]
pub struct Fetched {
    /// By identifier.
    pub folders: HashMap<String, Arc<Folder>>,
    /// Removed when dropped.
    pub scratches: Vec<Scratch>,
}

/// Fetches, in parallel, what steps name that must be looked at anew.
pub async fn fetch_first(
    store: &Arc<Store>,
    downloads: &Arc<dyn Downloads>,
    graph: &Graph,
    vertices: &[VertexId],
) -> Result<Fetched, StepFailure> {
    let sources = vertices.iter().filter_map(|id| match graph.vertex(*id).kind() {
        Kind::Source(source) if is_fetched_first(source) => Some((*id, source)),
        _ => None,
    });
    let fetching = sources.map(|(id, source)| async move {
        let fetched = fetch_one(store, downloads, source).await;
        let (folder, scratch) =
            fetched.map_err(|error| StepFailure { vertex: id, error: Arc::new(error) })?;
        Ok((source.identifier.clone(), folder, scratch))
    });
    let mut all = Fetched::default();
    for (identifier, folder, scratch) in futures_util::future::try_join_all(fetching).await? {
        all.folders.insert(identifier, Arc::new(folder));
        all.scratches.push(scratch);
    }
    Ok(all)
}

async fn fetch_one(
    store: &Arc<Store>,
    downloads: &Arc<dyn Downloads>,
    source: &SourceOp,
) -> Result<(Folder, Scratch), SolveError> {
    let scratch = store.scratch()?;
    let url = source.identifier.clone();
    let failed = |reason| SolveError::Download { url: url.clone(), reason };
    let mut below = String::new();
    if let Some(keep) = source.attrs.get(GIT) {
        let mut address = GitAddress::parse(&url).ok_or_else(|| failed("no repository".to_owned()))?;
        address.keep_git_directory |= keep == "true";
        below.clone_from(&address.subdirectory);
        downloads.clone_repository(address, scratch.path().to_owned()).await.map_err(failed)?;
    } else {
        let target = scratch.path().join(file_name(source));
        let modified = downloads.fetch(url.clone(), target.clone()).await.map_err(failed)?;
        blocking(move || set_time(&target, modified)).await?;
    }
    let descriptor = open(scratch.path(), &below)?;
    Ok((Folder { tree: fileop::Tree::context(descriptor, Ignore::default()) }, scratch))
}

/// Opens a folder, or one below it; links never lead out of it.
fn open(path: &Path, below: &str) -> Result<OwnedFd, SolveError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let refuse = |errno| FileError::errno("open", &path.join(below), errno);
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(refuse)?;
    match below {
        "" => Ok(root),
        below => Ok(open_in_root(root.as_fd(), Path::new(below), flags).map_err(refuse)?),
    }
}

fn file_name(source: &SourceOp) -> String {
    source.attrs.get(FILE_NAME).cloned().unwrap_or_else(|| "download".to_owned())
}

/// Fetches a URL into a layer of its own and compares its digest.
pub async fn download(
    store: &Arc<Store>,
    downloads: &Arc<dyn Downloads>,
    source: &SourceOp,
) -> Result<Option<Arc<LayerRecord>>, SolveError> {
    let url = source.identifier.clone();
    let checksum = source.attrs.get(CHECKSUM).cloned();
    let preparing = Arc::clone(store);
    let step = blocking(move || StepSnapshot::prepare(&preparing, &[])).await?;
    let target = step.snapshot.upper.join(file_name(source));
    let modified = downloads
        .fetch(url.clone(), target.clone())
        .await
        .map_err(|reason| SolveError::Download { url: url.clone(), reason })?;
    blocking(move || {
        if let Some(expected) = checksum {
            verify(&url, &target, &expected)?;
        }
        set_time(&target, modified)?;
        step.commit()
    })
    .await
}

/// The time that the server names, or a fixed one: when it was fetched says nothing of the file.
fn set_time(path: &Path, modified: Option<i64>) -> Result<(), SolveError> {
    let seconds = modified.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let file = std::fs::File::options().write(true).open(path).map_err(FileError::io("open", path))?;
    file.set_modified(time).map_err(FileError::io("set the time of", path))?;
    Ok(())
}

fn verify(url: &str, path: &Path, expected: &str) -> Result<(), SolveError> {
    let mut file = std::fs::File::open(path).map_err(FileError::io("open", path))?;
    let algorithm = Digest::parse(expected).map_or(ferry_oci::Algorithm::Sha256, |digest| digest.algorithm());
    let mut hasher = ferry_oci::Hasher::new(algorithm);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = std::io::Read::read(&mut file, &mut buffer).map_err(FileError::io("read", path))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    let found = hasher.finish().to_string();
    match found == expected {
        true => Ok(()),
        false => Err(SolveError::Checksum { url: url.to_owned(), found, expected: expected.to_owned() }),
    }
}
