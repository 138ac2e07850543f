//! What a caller brings to a build: folders, secrets, downloads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::executor::BoxFuture;
use crate::fileop;
use crate::git::GitAddress;

/// A folder to copy from.
#[derive(Debug)]
pub struct Folder {
    /// Its files, with `.dockerignore` applied.
    pub tree: fileop::Tree,
}

/// A secret's bytes; never printed.
#[derive(Clone)]
pub struct Secret(pub Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Secret({} bytes)", self.0.len())
    }
}

/// Fetches what `ADD https://` names.
pub trait Downloads: Send + Sync {
    /// Writes the body of a URL to a file; gives the `Last-Modified` time in seconds, when there is one.
    fn fetch(&self, url: String, target: PathBuf) -> BoxFuture<'static, Result<Option<i64>, String>>;

    /// Puts the tree of a repository into an empty directory; gives the commit's time in seconds.
    fn clone_repository(
        &self,
        address: GitAddress,
        target: PathBuf,
    ) -> BoxFuture<'static, Result<i64, String>>;
}

/// What a caller brings.
#[derive(Default, Clone)]
pub struct BuildInputs {
    /// Folders by name; `context` is the main one. What was fetched first stands under its URL.
    pub folders: HashMap<String, Arc<Folder>>,
    /// Secrets by id.
    pub secrets: HashMap<String, Secret>,
    /// Agents' sockets by id.
    pub agents: HashMap<String, PathBuf>,
}
