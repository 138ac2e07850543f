//! Making a container: everything is checked before anything is made, and what was made is taken back when
//! a later step fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ferry_api::container::{
    Config, CreateRequest, CreateResponse, EndpointSettings, HostConfig, NetworkingConfig,
};
use ferry_store::{Image, IoError, ResolveError, SnapshotError, VaultError, VolumeError};
use http::StatusCode;

use super::Container;
use super::name::{InvalidName, check_name, generated_name, new_id};
use super::record::{Record, RunState, VERSION};
use super::registry::{LookupError, NameTaken};
use super::settings::{self, SettingsError};
use super::volumes;
use crate::clock;
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::image::embedded;
use crate::network::{self, NetworkError};
use crate::spec::mounts::{self, Caller, MountError, MountKind, MountPlan};
use crate::volume::Wanted;

/// Made-up names tried before giving up.
const NAME_ATTEMPTS: u32 = 100;

/// Why a container was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// What is asked of its networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The name breaks the rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The name is taken.
    #[error(transparent)]
    NameTaken(#[from] NameTaken),
    /// Every made-up name was taken.
    #[error("could not make up a free container name")]
    NoFreeName,
    /// No image is named.
    #[error("invalid reference format: no image given")]
    NoImage,
    /// The image is not here.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The image's name is wrong, or fits several.
    #[error(transparent)]
    Image(ResolveError),
    /// Settings that cannot be granted.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret or config that is not in the store.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A mount that cannot be granted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A bind mount's source that must exist.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    NoSource(String),
    /// `--volumes-from`, `--network container:`, `--pid container:` name nobody.
    #[error(transparent)]
    Container(#[from] LookupError),
    /// A word after the container of `--volumes-from` that is neither `ro` nor `rw`.
    #[error("invalid mode: {0}")]
    VolumesFromMode(String),
    /// A volume cannot be made.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Random bytes.
    #[error("make an id")]
    Random(#[source] std::io::Error),
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The writable layer.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The image's files cannot be put into a new volume.
    #[error("fill volume {volume} from the image")]
    CopyUp {
        /// The volume.
        volume: String,
        /// Why.
        #[source]
        source: IoError,
    },
    /// A volume with driver options cannot be mounted.
    #[error(transparent)]
    MountVolume(#[from] crate::volume::MountError),
    /// Nobody knows whose files are to be the container user's.
    #[error("invalid mode: idmap: the caller is known only on the engine's unix socket")]
    NoCaller,
}

impl HttpStatus for CreateError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Name(_)
            | Self::NoImage
            | Self::Settings(_)
            | Self::Mount(_)
            | Self::NoSource(_)
            | Self::NoCaller
            | Self::VolumesFromMode(_) => StatusCode::BAD_REQUEST,
            Self::NameTaken(error) => error.status(),
            Self::Network(error) => error.status(),
            Self::Vault(error) => error.status(),
            Self::NoSuchImage(_) => StatusCode::NOT_FOUND,
            Self::Image(ResolveError::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::Image(_) => StatusCode::BAD_REQUEST,
            Self::Container(error) => error.status(),
            Self::Volume(
                VolumeError::Name(_)
                | VolumeError::Option { .. }
                | VolumeError::MissingOption { .. }
                | VolumeError::NoQuota(_)
                | VolumeError::Driver(_),
            ) => StatusCode::BAD_REQUEST,
            Self::Volume(_)
            | Self::NoFreeName
            | Self::Random(_)
            | Self::Io(_)
            | Self::Snapshot(_)
            | Self::MountVolume(_)
            | Self::CopyUp { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Makes a container and answers with its id.
pub async fn create(
    engine: &Arc<Engine>,
    name: Option<&str>,
    request: CreateRequest,
    caller: Option<Caller>,
) -> Result<CreateResponse, CreateError> {
    let name = name.map(check_name).transpose()?;
    let id = new_id().map_err(CreateError::Random)?;
    embedded::ensure(engine, &request.config.image).await;
    let image = resolve_image(engine, &request.config.image)?;
    let (record, warnings) = plan(engine, &id, request, &image, caller)?;
    let name = reserve_name(engine, name, &id)?;
    let record = Record { name: name.clone(), ..record };
    let made = if record.mounts.is_empty() && !record.durable() {
        // A few small files in the disk's cache: another thread would cost more than they do.
        Ok(make(engine, record, &image))
    } else {
        let engine = Arc::clone(engine);
        tokio::task::spawn_blocking(move || make(&engine, record, &image)).await
    };
    let (container, wanted) = match made.map_err(|error| CreateError::Random(std::io::Error::other(error))) {
        Ok(Ok(container)) => container,
        Ok(Err(error)) | Err(error) => {
            engine.containers.release(&name, &id);
            return Err(error);
        }
    };
    engine.containers.insert(Arc::clone(&container));
    drop(wanted);
    engine.events.emit("container", "create", &id, container.event_attributes());
    Ok(CreateResponse { id, warnings })
}

fn resolve_image(engine: &Engine, name: &str) -> Result<Arc<Image>, CreateError> {
    if name.is_empty() {
        return Err(CreateError::NoImage);
    }
    match engine.store.images().resolve(name) {
        Ok(image) => Ok(image),
        Err(ResolveError::NotFound(_)) => Err(CreateError::NoSuchImage(
            ferry_oci::Reference::parse_normalized(name)
                .map_or_else(|_| name.to_owned(), |reference| reference.familiar()),
        )),
        Err(error) => Err(CreateError::Image(error)),
    }
}

/// The record as it will be written, without touching anything.
fn plan(
    engine: &Engine,
    id: &str,
    request: CreateRequest,
    image: &Image,
    caller: Option<Caller>,
) -> Result<(Record, Vec<String>), CreateError> {
    let CreateRequest { mut config, host_config, networking_config } = request;
    let mut host_config = host_config.unwrap_or_default();
    settings::merge_image(&mut config, &image.config.config);
    engine.defaults().container.fill(&mut config, &mut host_config);
    settings::fill_defaults(&mut config, &mut host_config, id, &engine.host);
    let mut warnings = settings::check(&config, &host_config, &engine.host)?;
    check_peers(engine, &host_config)?;
    let mounts = plan_mounts(engine, &config, &host_config, caller)?;
    let endpoints = plan_endpoints(&host_config, networking_config);
    let record = Record {
        version: VERSION,
        id: id.to_owned(),
        name: String::new(),
        created: clock::now(),
        image_id: image.id.to_string(),
        layers: image.diff_ids(),
        config,
        host_config,
        endpoints,
        mounts,
        state: RunState::default(),
    };
    network::check(engine, &record)?;
    warnings.extend(network::obstacles(engine, &record));
    Ok((record, warnings))
}

/// Containers whose namespaces are to be shared must exist now, though not run.
fn check_peers(engine: &Engine, host_config: &HostConfig) -> Result<(), CreateError> {
    for mode in [&host_config.network_mode, &host_config.pid_mode, &host_config.ipc_mode] {
        if let Some(peer) = mode.strip_prefix("container:") {
            engine.containers.find(peer)?;
        }
    }
    Ok(())
}

/// Docker's order: other containers' mounts, binds, long mounts, tmpfs, and last the image's volumes where
/// nothing else is mounted.
fn plan_mounts(
    engine: &Engine,
    config: &Config,
    host_config: &HostConfig,
    caller: Option<Caller>,
) -> Result<Vec<MountPlan>, CreateError> {
    let mut plans = Vec::new();
    for text in host_config.binds.iter().flatten() {
        let mut plan = MountPlan::parse_bind(text)?;
        if plan.maps_ids {
            plan.caller = Some(caller.ok_or(CreateError::NoCaller)?);
        }
        plans.push(plan);
    }
    for mount in &host_config.mounts {
        let mut plan = MountPlan::from_mount(mount)?;
        if plan.kind == MountKind::Image {
            let image = resolve_image(engine, &plan.name)?;
            plan.source = image.id.to_string();
            plan.layers = image.diff_ids();
        }
        if plan.kind == MountKind::Secret {
            plan.name = engine.store.vault().find(crate::secrets::kind_of(&plan), &plan.name)?.name;
        }
        plans.push(plan);
    }
    for (destination, options) in &host_config.tmpfs {
        plans.push(mounts::parse_tmpfs(destination, options)?);
    }
    for text in host_config.volumes_from.iter().flatten() {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        if !matches!(mode, "ro" | "rw") {
            return Err(CreateError::VolumesFromMode(mode.to_owned()));
        }
        let other = engine.containers.find(name)?.record();
        for plan in other.mounts {
            if !plans.iter().any(|mine| mine.destination == plan.destination) {
                plans.push(plan.inherited(mode == "ro"));
            }
        }
    }
    for destination in config.volumes.iter().flatten().map(|(destination, _)| destination) {
        let plan = MountPlan::anonymous_volume(destination)?;
        if !plans.iter().any(|mine| mine.destination == plan.destination) {
            plans.push(plan);
        }
    }
    Ok(mounts::order(plans)?)
}

fn plan_endpoints(
    host_config: &HostConfig,
    networking: Option<NetworkingConfig>,
) -> BTreeMap<String, EndpointSettings> {
    let asked = networking.and_then(|networking| networking.endpoints_config).unwrap_or_default();
    let mut endpoints: BTreeMap<String, EndpointSettings> =
        asked.into_iter().map(|(name, settings)| (name, settings.unwrap_or_default())).collect();
    // Clients name the default network by its alias.
    if let Some(settings) = endpoints.remove("default") {
        endpoints.entry("bridge".into()).or_insert(settings);
    }
    match network::Mode::parse(&host_config.network_mode) {
        network::Mode::None => {
            endpoints.entry("none".into()).or_default();
        }
        network::Mode::Host => {
            endpoints.entry("host".into()).or_default();
        }
        network::Mode::Container(_) => endpoints.clear(),
        network::Mode::Network(name) => {
            endpoints.entry(name.to_owned()).or_default();
        }
    }
    endpoints
}

fn reserve_name(engine: &Engine, asked: Option<String>, id: &str) -> Result<String, CreateError> {
    if let Some(name) = asked {
        engine.containers.reserve(&name, id)?;
        return Ok(name);
    }
    for attempt in 0..NAME_ATTEMPTS {
        let name = generated_name(attempt).map_err(CreateError::Random)?;
        if engine.containers.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
    Err(CreateError::NoFreeName)
}

/// Directory, writable layer, volumes, record; all of it or nothing.
fn make(
    engine: &Engine,
    record: Record,
    image: &Image,
) -> Result<(Arc<Container>, Vec<Wanted>), CreateError> {
    let id = record.id.clone();
    let mut undo = Undo { engine, id: Some(id.clone()), volumes: Vec::new() };
    let dir = engine.store.containers().create_dir(&id)?;
    engine.store.snapshots().prepare(&id, &record.layers)?;
    let mounted: Vec<_> = record.mounts.iter().flat_map(|plan| plan.layers.clone()).collect();
    engine.store.snapshots().keep_mounted(&id, &mounted)?;
    let container = Container::new(record, dir);
    let mut plans = container.record().mounts;
    let mut wanted = Vec::new();
    for plan in &mut plans {
        if let Some(made) = volumes::provide(engine, plan, image, &mut wanted)? {
            undo.volumes.push(made);
        }
        refuse_missing_source(plan)?;
    }
    container.lock().record.mounts = plans;
    container.persist(&engine.store, container.is_durable())?;
    undo.id = None;
    Ok((container, wanted))
}

fn refuse_missing_source(plan: &MountPlan) -> Result<(), CreateError> {
    let must_exist = plan.kind == MountKind::Bind && !plan.create_source;
    if must_exist && !Path::new(&plan.source).exists() {
        return Err(CreateError::NoSource(plan.source.clone()));
    }
    Ok(())
}

/// Takes back what was made, unless told that all went well.
struct Undo<'a> {
    engine: &'a Engine,
    id: Option<String>,
    volumes: Vec<String>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let Some(id) = &self.id else { return };
        for volume in &self.volumes {
            if let Err(error) = self.engine.store.volumes().remove(volume) {
                tracing::warn!(%volume, %error, "take back a volume");
            }
        }
        if let Err(error) = self.engine.store.containers().remove(id) {
            tracing::warn!(container = %id, %error, "take back a container's directory");
        }
    }
}
