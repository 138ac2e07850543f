//! Everything one running engine holds, and its opening: store, host facts, containers found on disk.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use ferry_store::Store;

use crate::build::BuildService;
use crate::container::prune::PruneGuard;
use crate::container::recover;
use crate::container::registry::Registry;
use crate::defaults::Defaults;
use crate::error::{HttpError, error_chain};
use crate::events::EventHub;
use crate::host::Host;
use crate::network::{self, Networks};
use crate::options::EngineOptions;
use crate::registries::RegistriesError;
use crate::seccomp::SeccompCache;
use crate::server::sockets::Sockets;
use crate::shim::Launcher;
use crate::transfer::Transfers;
use crate::volume::LiveVolumes;

/// File under the data root's metadata that holds this installation's id.
const ID_TABLE: &str = "engine";
const ID_KEY: &str = "id";

/// The state all requests share. There is no lock around it: every part has its own, held for moments.
pub struct Engine {
    /// What it was started with.
    pub options: EngineOptions,
    /// This installation's id.
    pub id: String,
    /// Bytes at rest.
    pub store: Arc<Store>,
    /// Facts about the machine.
    pub host: Host,
    /// What happened.
    pub events: EventHub,
    /// Networks and the way to the service that wires them.
    pub networks: Networks,
    /// Containers by id and name.
    pub containers: Registry,
    /// Exchanges with registries.
    pub transfers: Transfers,
    /// Who forks monitors.
    pub launcher: Launcher,
    /// What containers and networks get that say nothing themselves.
    defaults: RwLock<Arc<Defaults>>,
    /// Sockets that let a part of the API through.
    pub sockets: Sockets,
    /// Compiled seccomp filters.
    pub seccomp: SeccompCache,
    /// Volumes that are mounted while they are used.
    pub live_volumes: LiveVolumes,
    /// Turns true when every container found on disk was looked after once.
    pub recovered: tokio::sync::watch::Sender<bool>,
    /// One prune of containers at a time.
    pub pruning: PruneGuard,
    /// Builds; opened by the first one.
    builds: tokio::sync::OnceCell<Arc<BuildService>>,
}

impl Engine {
    /// Opens the data root and takes over the containers that are there.
    pub async fn open(options: EngineOptions) -> anyhow::Result<Arc<Self>> {
        let settings = options.registries.settings()?;
        let defaults = Arc::new(options.registries.defaults()?);
        let data_root = options.data_root.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&data_root))
            .await?
            .with_context(|| format!("open data root {}", options.data_root.display()))?;
        let id = installation_id(&store)?;
        let (opening, opened, own_id) = (options.clone(), Arc::clone(&store), id.clone());
        let for_networks = Arc::clone(&defaults);
        let networks = tokio::task::spawn_blocking(move || {
            Networks::open(&opened, &opening, &own_id, &for_networks.network)
        })
        .await??;
        let launcher = Launcher::start(options.run_root.join(ferry_shim::protocol::LAUNCHER_SOCKET));
        let sockets = Sockets::open(&store);
        let engine = Arc::new(Self {
            options,
            id,
            store,
            host: Host::read(),
            events: EventHub::default(),
            networks,
            containers: Registry::default(),
            transfers: Transfers::new(settings),
            launcher,
            defaults: RwLock::new(defaults),
            sockets,
            seccomp: SeccompCache::default(),
            live_volumes: LiveVolumes::default(),
            recovered: tokio::sync::watch::Sender::new(false),
            pruning: PruneGuard::default(),
            builds: tokio::sync::OnceCell::new(),
        });
        let warming = Arc::clone(&engine);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = warming.seccomp.warm() {
                tracing::error!(%error, "compile the default seccomp profile");
            }
            crate::image::embedded::register_or_warn(&warming.store);
            // What an earlier engine could not remove any more. Blobs may be a registry's.
            if let Err(error) = warming.store.gc(&|_| true) {
                tracing::warn!(error = &error as &dyn std::error::Error, "collect unused layers");
            }
        });
        network::adopt(&engine).await;
        recover::recover(&engine).await?;
        network::recover(&engine).await;
        let work = Arc::clone(&engine);
        tokio::task::spawn_blocking(move || crate::volume::sweep(&work)).await?;
        // Before anybody can make a container: one without a record is a build's step now.
        crate::build::sweep(&engine).await;
        Ok(engine)
    }

    /// The builder.
    pub async fn builds(self: &Arc<Self>) -> Result<&Arc<BuildService>, HttpError> {
        let open = async || BuildService::open(self).map(Arc::new);
        self.builds.get_or_try_init(open).await.map_err(|error| HttpError::internal(error_chain(&error)))
    }

    /// The builder, where there was a build already.
    pub fn builds_if_open(&self) -> Option<&Arc<BuildService>> {
        self.builds.get()
    }

    /// What containers and networks get that say nothing themselves.
    pub fn defaults(&self) -> Arc<Defaults> {
        Arc::clone(&self.defaults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the operator's settings again; where they make no sense, everything stays as it was. What is about the
    /// default bridge counts from the next start of an engine.
    ///
    /// # Errors
    /// As at the start.
    pub fn reload(&self) -> Result<(), RegistriesError> {
        let settings = self.options.registries.settings()?;
        let defaults = Arc::new(self.options.registries.defaults()?);
        let attributes = crate::registries::event_attributes(&settings, &defaults);
        crate::options::log_as(&defaults);
        *self.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
        self.transfers.follow(settings);
        self.events.emit("daemon", "reload", &self.id, attributes);
        Ok(())
    }

    /// Host address of ports that are published without one: the flag's, else the file's.
    pub fn publish_address(&self) -> Option<std::net::IpAddr> {
        let of_file = self.defaults().network.ip.filter(|address| !address.is_unspecified());
        self.options.publish_address.or(of_file)
    }

    /// Where this container's monitor has its socket.
    pub fn run_dir(&self, container_id: &str) -> PathBuf {
        self.options.run_root.join("containers").join(container_id)
    }

    /// The last thing before the process ends. Containers are not touched.
    pub fn close(&self) {
        self.sockets.close();
        tracing::info!("engine stopped; containers go on");
    }
}

/// The id of this installation, made at its first start.
fn installation_id(store: &Store) -> anyhow::Result<String> {
    let table = store.kv::<String>(ID_TABLE);
    if let Some(id) = table.get(ID_KEY)? {
        return Ok(id);
    }
    let hex = crate::container::name::new_id().context("make an installation id")?;
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]);
    table.put(ID_KEY, &id)?;
    Ok(id)
}
