//! `import`: a root file system tar becomes an image of one layer.

use std::io::Read;
use std::sync::Arc;

use ferry_oci::image::{ContainerConfig, History, ImageConfig, RootFs};
use ferry_oci::{Platform, Reference};

use crate::files;
use crate::image::{ChangeError, Image, RegisterError, Registration, apply_changes};
use crate::layer::{LayerError, LayerOptions};
use crate::store::Store;

/// What an import makes of the tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Dockerfile instructions for the config.
    pub changes: Vec<String>,
    /// Message for the history.
    pub message: String,
    /// Where the tar came from, for the history (`-`, a URL).
    pub source: String,
    /// Name to give.
    pub reference: Option<Reference>,
    /// Platform to write into the config; the host's when absent.
    pub platform: Option<Platform>,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A change is wrong.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The tar is bad, or cannot be unpacked.
    #[error("cannot import the root file system")]
    Layer(#[from] LayerError),
    /// The image cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

impl Store {
    /// Makes an image of a root file system tar (plain, gzip or zstd).
    pub fn import_rootfs(
        &self,
        reader: impl Read,
        options: &ImportOptions,
    ) -> Result<Arc<Image>, ImportError> {
        let mut config = ContainerConfig::default();
        apply_changes(&mut config, &options.changes)?;
        let layer = self.layers().import(reader, &LayerOptions::default())?;
        let created = files::now();
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let comment = match options.message.as_str() {
            "" => format!("Imported from {}", options.source),
            message => message.to_owned(),
        };
        let document = ImageConfig {
            created: Some(created.clone()),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config,
            rootfs: RootFs { diff_ids: vec![layer.diff_id.clone()], ..RootFs::default() },
            history: vec![History { created: Some(created), comment: Some(comment), ..History::default() }],
            ..ImageConfig::default()
        };
        let config = serde_json::to_vec(&document)
            .map_err(|source| RegisterError::Config { digest: layer.diff_id.clone(), source })?;
        let references = options.reference.iter().cloned().collect();
        let registration = Registration { config, references, ..Registration::default() };
        let image = self.images().register(registration)?;
        drop(layer);
        Ok(image)
    }
}
