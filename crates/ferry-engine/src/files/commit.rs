//! `commit`: a container's changes become an image.

use std::sync::Arc;

use ferry_oci::image::{ContainerConfig, History, ImageConfig, RootFs};
use ferry_oci::{Digest, Reference};
use ferry_store::image::{ChangeError, apply_changes};
use ferry_store::{DiffError, Image, RegisterError, Registration};
use http::StatusCode;
use serde_json::Value;

use crate::clock;
use crate::container::record::Record;
use crate::container::state::Status;
use crate::container::{Container, stuck};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::shim::LinkError;

/// What a commit is to make.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Name to give.
    pub reference: Option<Reference>,
    /// Remark for the history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Freeze the container while its files are read.
    pub pause: bool,
    /// Dockerfile instructions for the config.
    pub changes: Vec<String>,
    /// Fields that replace those of the container's config.
    pub config: Value,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The image that the container was made of is gone.
    #[error("the image {0} that the container was made of is gone")]
    NoImage(String),
    /// A change is wrong.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The config cannot be read.
    #[error("the container's config cannot be an image's")]
    Config(#[from] serde_json::Error),
    /// The container cannot be frozen.
    #[error("freeze the container")]
    Freeze(#[source] LinkError),
    /// The changes cannot be read.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The image cannot be kept.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The work itself broke down.
    #[error("the commit broke down")]
    Broken(#[from] tokio::task::JoinError),
}

impl HttpStatus for CommitError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoImage(_) => StatusCode::NOT_FOUND,
            Self::Change(_) | Self::Config(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Makes an image of a container. A running one is frozen for the time that its files are read.
pub async fn commit(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    request: CommitRequest,
) -> Result<Arc<Image>, CommitError> {
    let _lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let config = run_config(&record, &request)?;
    let frozen = match container.link().filter(|_| request.pause && container.status() == Status::Running) {
        Some(link) => {
            stuck::freeze(container, &link, true).await.map_err(CommitError::Freeze)?;
            Some(link)
        }
        None => None,
    };
    let upper = container.dir.upper();
    let work = Arc::clone(engine);
    let layer = tokio::task::spawn_blocking(move || work.store.commit_upper(&upper)).await;
    if let Some(link) = frozen {
        // Whatever became of the layer, the container goes on.
        stuck::freeze(container, &link, false).await.map_err(CommitError::Freeze)?;
    }
    let layer = layer??;
    let work = Arc::clone(engine);
    tokio::task::spawn_blocking(move || {
        let base = base_image(&work, &record)?;
        let document =
            document(&base, config, &record, &request, (layer.entries > 0).then_some(&layer.diff_id));
        let registration = Registration {
            config: serde_json::to_vec(&document)?,
            references: request.reference.iter().cloned().collect(),
            parent: Some(base.id.clone()),
            ..Registration::default()
        };
        let image = work.store.images().register(registration)?;
        drop(layer);
        Ok(image)
    })
    .await?
}

fn base_image(engine: &Engine, record: &Record) -> Result<Arc<Image>, CommitError> {
    let gone = || CommitError::NoImage(record.image_id.clone());
    let id = Digest::parse(&record.image_id).map_err(|_| gone())?;
    engine.store.images().get(&id).ok_or_else(gone)
}

/// The container's config as an image's: without what only one run has.
fn run_config(record: &Record, request: &CommitRequest) -> Result<ContainerConfig, CommitError> {
    let mut value = serde_json::to_value(&record.config)?;
    if let (Value::Object(fields), Value::Object(given)) = (&mut value, &request.config) {
        for (name, given) in given.iter().filter(|(_, given)| !is_nothing(given)) {
            fields.insert(name.clone(), given.clone());
        }
    }
    let mut config: ContainerConfig = serde_json::from_value(value)?;
    config.other.clear();
    config.hostname.clear();
    config.domainname.clear();
    config.image.clear();
    apply_changes(&mut config, &request.changes)?;
    Ok(config)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    }
}

fn document(
    base: &Image,
    config: ContainerConfig,
    record: &Record,
    request: &CommitRequest,
    layer: Option<&Digest>,
) -> ImageConfig {
    let created = clock::now();
    let mut diff_ids = base.diff_ids();
    diff_ids.extend(layer.cloned());
    let command = record.config.cmd.clone().unwrap_or_default();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut history = base.config.history.clone();
    history.push(History {
        created: Some(created.clone()),
        created_by: text(&command.join(" ")),
        author: text(&request.author),
        comment: text(&request.comment),
        empty_layer: layer.is_none(),
    });
    ImageConfig {
        created: Some(created),
        author: text(&request.author),
        comment: text(&request.comment),
        config,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
        docker_version: None,
        other: serde_json::Map::from_iter([
            ("container".to_owned(), Value::String(record.id.clone())),
            ("container_config".to_owned(), serde_json::to_value(&record.config).unwrap_or_default()),
        ]),
        ..base.config.clone()
    }
}
