//! `/ferry/build`: builds of folders of this machine, asked for in one JSON object and told as events.
//!
//! The folders are read where they lie. The client opens them and hands them over beside the request, so
//! that a path never means another folder than it means to the client; and what lies in them is opened
//! with the client's rights, so that a build gives nobody a file that they cannot read themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_build::lower::{NamedContext, NoCache};
use ferry_build::solve::Secret;
use ferry_sys::rights::Rights;
use serde::Deserialize;

use super::context::{Context, ContextError};
use super::options::{BuildOptions, OptionsError};
use super::reuse::CacheMode;

/// What goes beyond the classic query.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct LocalBuild {
    /// Names of the folders that were handed over, in their order; `context` is the main one.
    pub folders: Vec<String>,
    /// A Dockerfile from elsewhere, base64.
    pub dockerfile_text: Option<String>,
    /// The ignore file beside a Dockerfile from elsewhere.
    pub ignore_text: Option<String>,
    /// Secrets by id, base64.
    pub secrets: BTreeMap<String, String>,
    /// Agents' sockets by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Named contexts that are no folders: `docker-image://` and a name, or the URL of a repository or archive.
    pub contexts: BTreeMap<String, String>,
    /// Stages that are not looked up in the cache.
    pub no_cache_filter: BTreeSet<String>,
    /// Entitlements.
    pub allow: BTreeSet<String>,
    /// `SOURCE_DATE_EPOCH` of the caller.
    pub source_date_epoch: Option<i64>,
    /// The context's URL, in the place of a folder.
    pub remote: String,
    /// Images to fetch for their cache records.
    pub cache_from: Vec<String>,
    /// The image carries its own cache records.
    pub inline_cache: bool,
    /// The image gets no name, whatever the query says.
    pub unnamed: bool,
    /// Which cache records to put into an image of their own.
    pub cache_to: Option<CacheMode>,
}

impl LocalBuild {
    /// Adds these to the options of the query.
    pub fn apply(&self, options: &mut BuildOptions) {
        let lower = &mut options.lower;
        lower.allow_host_network = self.allow.contains("network.host");
        lower.allow_insecure = self.allow.contains("security.insecure");
        lower.source_date_epoch = self.source_date_epoch;
        options.cache_from.clone_from(&self.cache_from);
        options.pull_caches = true;
        options.inline_cache |= self.inline_cache;
        options.cache_to = self.cache_to;
        if self.unnamed {
            options.tags.clear();
        }
        let lower = &mut options.lower;
        if lower.no_cache == NoCache::None && !self.no_cache_filter.is_empty() {
            lower.no_cache = NoCache::Stages(self.no_cache_filter.clone());
        }
        for (name, value) in &self.contexts {
            let context = match value.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None => NamedContext::Folder,
            };
            lower.named_contexts.insert(name.clone(), context);
        }
        for name in self.folders.iter().filter(|name| *name != CONTEXT) {
            lower.named_contexts.insert(name.clone(), NamedContext::Folder);
        }
    }

    /// Takes the main folder, and what comes beside it.
    pub fn open(&self, dockerfile: &str, client: Client) -> Result<Context, LocalBuildError> {
        let text = self.dockerfile_text.as_deref().map(|text| decode("DockerfileText", text)).transpose()?;
        let mut folders = self.named(client.folders)?;
        let folder = folders.remove(CONTEXT).ok_or(LocalBuildError::NoFolders)?;
        let mut context = Context::from_folder(
            folder,
            client.rights.clone(),
            dockerfile,
            text,
            self.ignore_text.as_deref(),
        )?;
        self.add(&mut context, folders, client.rights)?;
        Ok(context)
    }

    /// The descriptors by their names.
    fn named(&self, descriptors: Vec<OwnedFd>) -> Result<BTreeMap<String, OwnedFd>, LocalBuildError> {
        match descriptors.len() == self.folders.len() {
            true => Ok(self.folders.iter().cloned().zip(descriptors).collect()),
            false => Err(LocalBuildError::NoFolders),
        }
    }

    /// Adds to a context what the caller gave beside it.
    pub fn complete(&self, context: &mut Context, client: Client) -> Result<(), LocalBuildError> {
        let folders = self.named(client.folders)?;
        self.add(context, folders, client.rights)
    }

    fn add(
        &self,
        context: &mut Context,
        folders: BTreeMap<String, OwnedFd>,
        rights: Option<Arc<Rights>>,
    ) -> Result<(), LocalBuildError> {
        for (name, folder) in folders {
            context.add_folder(&name, folder, rights.clone())?;
        }
        for (id, text) in &self.secrets {
            let bytes: Arc<[u8]> = decode(id, text)?.into();
            context.inputs.secrets.insert(id.clone(), Secret(bytes));
        }
        for path in self.agents.values() {
            may_use(path, rights.as_deref())
                .map_err(|errno| LocalBuildError::Agent { path: path.clone(), source: errno.into() })?;
        }
        context.inputs.agents = self.agents.iter().map(|(id, path)| (id.clone(), path.clone())).collect();
        Ok(())
    }
}

/// An agent's socket is mounted by the engine, so that it must be asked whether the client might use it.
fn may_use(path: &Path, rights: Option<&Rights>) -> Result<(), rustix::io::Errno> {
    let Some(rights) = rights else { return Ok(()) };
    let _assumed = rights.assume()?;
    let flags = rustix::fs::AtFlags::EACCESS;
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::WRITE_OK, flags)
}

/// What a client brings beside a request.
pub struct Client {
    /// Folders that it opened.
    pub folders: Vec<OwnedFd>,
    /// Its rights on files, where the engine has more.
    pub rights: Option<Arc<Rights>>,
}

/// The name of the main folder.
const CONTEXT: &str = "context";

fn decode(what: &str, text: &str) -> Result<Vec<u8>, LocalBuildError> {
    STANDARD.decode(text).map_err(|source| LocalBuildError::Base64 { what: what.to_owned(), source })
}

/// Why a local build cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LocalBuildError {
    /// The context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Folders were named and none came: something in between passes bytes on and nothing else.
    #[error("the folders of this build did not come with it")]
    NoFolders,
    /// A socket that is not the client's to use.
    #[error("cannot use the ssh agent {path}")]
    Agent {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that do not decode.
    #[error("invalid base64 in {what}")]
    Base64 {
        /// Where.
        what: String,
        /// Why.
        #[source]
        source: base64::DecodeError,
    },
}

impl crate::error::HttpStatus for LocalBuildError {
    fn status(&self) -> http::StatusCode {
        match self {
            Self::Context(error) => error.status(),
            Self::Options(error) => error.status(),
            Self::Base64 { .. } => http::StatusCode::BAD_REQUEST,
            Self::Agent { .. } => http::StatusCode::FORBIDDEN,
            Self::NoFolders => http::StatusCode::MISDIRECTED_REQUEST,
        }
    }
}
