//! `/ferry/build`: builds of folders of this machine, asked for in one JSON object and told as events.
//!
//! The folder is read where it lies. Whoever may use the socket may mount any folder into a container,
//! so naming one here gives nobody a right that they did not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_build::lower::{NamedContext, NoCache};
use ferry_build::solve::Secret;
use serde::Deserialize;

use super::context::{Context, ContextError};
use super::options::{BuildOptions, OptionsError};
use super::reuse::CacheMode;

/// What goes beyond the classic query.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct LocalBuild {
    /// The context.
    pub folder: PathBuf,
    /// A Dockerfile from elsewhere, base64.
    pub dockerfile_text: Option<String>,
    /// Secrets by id, base64.
    pub secrets: BTreeMap<String, String>,
    /// Agents' sockets by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Named contexts: a folder, or `docker-image://` and a name.
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
    }

    /// Opens the folders and decodes the secrets.
    pub fn open(&self, dockerfile: &str) -> Result<Context, LocalBuildError> {
        let text = self.dockerfile_text.as_deref().map(|text| decode("DockerfileText", text)).transpose()?;
        let mut context = Context::from_folder(&self.folder, dockerfile, text)?;
        self.complete(&mut context)?;
        Ok(context)
    }

    /// Adds to a context what the caller gave beside it.
    pub fn complete(&self, context: &mut Context) -> Result<(), LocalBuildError> {
        for (name, value) in self.contexts.iter().filter(|(_, value)| !value.contains("://")) {
            context.add_folder(name, Path::new(value))?;
        }
        for (id, text) in &self.secrets {
            let bytes: Arc<[u8]> = decode(id, text)?.into();
            context.inputs.secrets.insert(id.clone(), Secret(bytes));
        }
        context.inputs.agents = self.agents.iter().map(|(id, path)| (id.clone(), path.clone())).collect();
        Ok(())
    }
}

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
        }
    }
}
