//! The executor: every step as soon as those before it are done, all of them at once where nothing orders them.

use super::engine::{Engine, trying};
use super::replace::{Old, Replaced, inherit_volumes};
use super::request::{archive, complete_request, primary_only, set_links};
use super::watch::Watch;
use super::{ApplyError, Phase, Progress, health, hooks};
use crate::container::{create_request, endpoints, file_contents};
use crate::labels;
use crate::model::Condition;
use crate::plan::{Action, Plan, Step};
use crate::target::Target;
use ferry_api::container::{CreateRequest, Inspect};
use ferry_api::network::{self, ConnectRequest, Ipam, IpamConfig};
use ferry_api::volume;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Steps under way at once: more would only queue in the engine, each with a connection of its own.
const MAX_PARALLEL: usize = 64;

/// What a run of the executor is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `-t`: how long a stop waits.
    pub timeout: Option<Duration>,
}

/// Carries plans out.
pub struct Executor<'a> {
    pub(super) engine: &'a Engine,
    pub(super) target: &'a Target,
    pub(super) progress: &'a dyn Progress,
    settings: Settings,
    watch: OnceCell<Watch>,
    /// Ids of containers by name: those found and those made.
    pub(super) ids: RefCell<BTreeMap<String, String>>,
    /// Ids of containers by service.
    by_service: RefCell<BTreeMap<String, BTreeSet<String>>>,
    /// Services with a container that ran before: their pre_start hooks are done.
    begun: BTreeSet<String>,
    /// Containers that ran before.
    ran_before: BTreeSet<String>,
    /// Services whose containers this run replaced, and whose pre_start hooks ran.
    replaced_services: RefCell<BTreeSet<String>>,
    hooked: RefCell<BTreeMap<String, std::rc::Rc<OnceCell<()>>>>,
    /// What updates replaced, for the way back.
    pub(super) replaced: RefCell<Vec<Replaced>>,
    /// How many replicas failed in updates, by service.
    pub(super) failed_updates: RefCell<BTreeMap<String, usize>>,
}

impl<'a> Executor<'a> {
    /// An executor for a project; `found` are the containers that are there.
    pub fn new(
        engine: &'a Engine,
        target: &'a Target,
        found: &[crate::found::FoundContainer],
        progress: &'a dyn Progress,
        settings: Settings,
    ) -> Self {
        let executor = Executor {
            engine,
            target,
            progress,
            settings,
            watch: OnceCell::new(),
            ids: RefCell::default(),
            by_service: RefCell::default(),
            begun: found
                .iter()
                .filter(|container| !container.oneoff && !container.hook)
                .filter(|container| container.status != crate::found::Status::Created)
                .map(|container| container.service.clone())
                .collect(),
            ran_before: found
                .iter()
                .filter(|container| container.status != crate::found::Status::Created)
                .map(|container| container.id.clone())
                .collect(),
            replaced_services: RefCell::default(),
            hooked: RefCell::default(),
            replaced: RefCell::default(),
            failed_updates: RefCell::default(),
        };
        for container in found.iter().filter(|container| !container.oneoff && !container.hook) {
            executor.remember(&container.service, &container.name, &container.id);
        }
        executor
    }

    pub(super) fn remember(&self, service: &str, name: &str, id: &str) {
        self.ids.borrow_mut().insert(name.to_owned(), id.to_owned());
        self.by_service.borrow_mut().entry(service.to_owned()).or_default().insert(id.to_owned());
    }

    pub(super) fn forget(&self, service: &str, name: &str, id: &str) {
        let mut ids = self.ids.borrow_mut();
        if ids.get(name).is_some_and(|known| known == id) {
            ids.remove(name);
        }
        if let Some(known) = self.by_service.borrow_mut().get_mut(service) {
            known.remove(id);
        }
    }

    /// Ids of a service's containers, as far as this run knows them.
    pub fn ids_of(&self, service: &str) -> Vec<String> {
        self.by_service.borrow().get(service).map(|ids| ids.iter().cloned().collect()).unwrap_or_default()
    }

    /// Names of a service's containers, as far as this run knows them.
    pub fn names_of(&self, service: &str) -> Vec<String> {
        let ids = self.ids_of(service);
        self.ids.borrow().iter().filter(|(_, id)| ids.contains(id)).map(|(name, _)| name.clone()).collect()
    }

    /// The shared event stream, opened at first use.
    pub async fn watch(&self) -> Result<&Watch, ApplyError> {
        self.watch.get_or_try_init(|| Watch::start(self.engine)).await
    }

    /// Carries a plan out. After the first failure no new step begins; those under way end.
    pub async fn execute(&self, plan: &Plan) -> Result<(), ApplyError> {
        for warning in &plan.warnings {
            self.progress.note(warning);
        }
        if plan.steps.iter().any(|step| matches!(step.action, Action::Wait { .. })) {
            self.watch().await?;
        }
        let mut missing: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
        let mut ready: Vec<usize> = (0..missing.len()).filter(|index| missing[*index] == 0).rev().collect();
        let mut running = FuturesUnordered::new();
        let mut failure = None;
        loop {
            while failure.is_none()
                && running.len() < MAX_PARALLEL
                && let Some(index) = ready.pop()
            {
                running.push(async move { (index, self.step(&plan.steps[index]).await) });
            }
            let Some((done, result)) = running.next().await else { break };
            if let Err(error) = result {
                failure.get_or_insert(error);
                continue;
            }
            for (index, step) in plan.steps.iter().enumerate() {
                if step.after.contains(&done) {
                    missing[index] -= 1;
                    if missing[index] == 0 {
                        ready.push(index);
                    }
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn step(&self, step: &Step) -> Result<(), ApplyError> {
        let (subject, before, after) = words(&step.action);
        self.progress.state(&subject, before, Phase::Working);
        match self.act(&step.action).await {
            Ok(Outcome::Done) => self.progress.state(&subject, after, Phase::Done),
            Ok(Outcome::Skipped(why)) => self.progress.state(&subject, &why, Phase::Warning),
            Err(error) => {
                self.progress.state(&subject, "Error", Phase::Failed);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn act(&self, action: &Action) -> Result<Outcome, ApplyError> {
        match action {
            Action::CreateNetwork { key, name } => self.create_network(key, name).await?,
            Action::RecreateNetwork { key, name, id } => self.recreate_network(key, name, id).await?,
            Action::CreateVolume { key, name } => self.create_volume(key, name).await?,
            Action::Create { service, number, name } => {
                let id = self.create(service, *number, name, name, None).await?;
                self.remember(service, name, &id);
            }
            Action::Recreate { service, number, name, id, old_name, inherit_volumes, update } => {
                let old = Old { id, name: old_name, inherit_volumes: *inherit_volumes };
                return self.replace(service, *number, name, &old, update.as_ref()).await;
            }
            Action::Rename { service, name, id } => {
                trying(format!("cannot rename a container to {name}"), self.engine.rename(id, name).await)?;
                self.remember(service, name, id);
            }
            Action::Start { service, name, id } => self.start(service, name, id.as_deref()).await?,
            Action::Wait { service, condition, required } => {
                return self.wait(service, *condition, *required).await;
            }
            Action::Stop { service, name, id } => self.stop(service, name, id).await?,
            Action::Remove { service, name, id, volumes } => {
                trying(
                    format!("cannot remove container {name}"),
                    self.engine.remove(id, *volumes, true).await,
                )?;
                self.forget(service, name, id);
            }
            Action::RemoveNetwork { name, id } => return self.remove_network(name, id).await,
            Action::RemoveVolume { name } => return self.remove_volume(name).await,
            Action::RemoveImage { name } => return self.remove_image(name).await,
        }
        Ok(Outcome::Done)
    }

    async fn create_network(&self, key: &str, name: &str) -> Result<(), ApplyError> {
        let Some(model) = self.target.networks.get(key) else { return Ok(()) };
        let ipam = model.ipam.as_ref().map(|ipam| Ipam {
            driver: ipam.driver.clone().unwrap_or_else(|| "default".to_owned()),
            options: (!ipam.options.is_empty()).then(|| ipam.options.clone()),
            config: Some(
                ipam.config
                    .iter()
                    .map(|pool| IpamConfig {
                        subnet: pool.subnet.clone().unwrap_or_default(),
                        ip_range: pool.ip_range.clone().unwrap_or_default(),
                        gateway: pool.gateway.clone().unwrap_or_default(),
                        auxiliary_addresses: pool.aux_addresses.clone(),
                    })
                    .collect(),
            ),
        });
        let hash = self.target.network_hashes.get(key).map_or("", String::as_str);
        let docker_hash = self.target.docker_hashes.networks.get(key).map_or("", String::as_str);
        let request = network::CreateRequest {
            name: name.to_owned(),
            check_duplicate: true,
            driver: model.driver.clone().unwrap_or_default(),
            enable_ipv4: model.enable_ipv4,
            enable_ipv6: model.enable_ipv6,
            ipam,
            internal: model.internal,
            attachable: model.attachable,
            options: (!model.driver_opts.is_empty()).then(|| model.driver_opts.clone()),
            labels: Some(self.engine.labels(labels::NETWORK, key, &model.labels, hash, docker_hash)),
            ..network::CreateRequest::default()
        };
        match self.engine.create_network(&request).await {
            // Another client of the project was faster.
            Err(error) if error.status() == Some(409) => Ok(()),
            answer => trying(format!("cannot create network {name}"), answer).map(drop),
        }
    }

    /// Containers leave the old network; they are recreated on the new one by steps after this.
    async fn recreate_network(&self, key: &str, name: &str, id: &str) -> Result<(), ApplyError> {
        let old = trying(format!("cannot inspect network {name}"), self.engine.network(id).await)?;
        for container in old.containers.keys() {
            let subject = format!("cannot disconnect {container} from {name}");
            trying(subject, self.engine.disconnect(id, container).await)?;
        }
        trying(format!("cannot remove network {name}"), self.engine.remove_network(id).await)?;
        self.create_network(key, name).await
    }

    async fn create_volume(&self, key: &str, name: &str) -> Result<(), ApplyError> {
        let Some(model) = self.target.volumes.get(key) else { return Ok(()) };
        let hash = self.target.volume_hashes.get(key).map_or("", String::as_str);
        let docker_hash = self.target.docker_hashes.volumes.get(key).map_or("", String::as_str);
        let request = volume::CreateRequest {
            name: name.to_owned(),
            driver: model.driver.clone().unwrap_or_default(),
            driver_opts: (!model.driver_opts.is_empty()).then(|| model.driver_opts.clone()),
            labels: Some(self.engine.labels(labels::VOLUME, key, &model.labels, hash, docker_hash)),
        };
        trying(format!("cannot create volume {name}"), self.engine.create_volume(&request).await).map(drop)
    }

    /// Creates a container under a name; `aliased` is the name it will have in the end.
    pub(super) async fn create(
        &self,
        service: &str,
        number: u32,
        name: &str,
        aliased: &str,
        old: Option<(&Inspect, &Old<'_>)>,
    ) -> Result<String, ApplyError> {
        let image = self.target.image(service);
        let Some(wanted) = self.target.wanted(service, &image, aliased, Some(number)) else {
            return Err(ApplyError::Setting(format!("no such service: {service}")));
        };
        let mut request = create_request(&wanted);
        self.complete(&mut request, wanted.service)?;
        if let Some((old, replaced)) = old {
            let labels = request.config.labels.get_or_insert_default();
            labels.insert(labels::REPLACE.to_owned(), replaced.name.to_owned());
            if replaced.inherit_volumes
                && let Some(host) = &mut request.host_config
            {
                inherit_volumes(host, old);
            }
        }
        let contents = file_contents(&wanted, &|path| std::fs::read(path)).map_err(ApplyError::Setting)?;
        let all = endpoints(&wanted);
        let later = self.keep_primary(&mut request, &wanted);
        let platform = wanted.service.platform.clone().unwrap_or_default();
        let created = self.engine.create(name, &platform, &request).await;
        let created = trying(format!("cannot create container {name}"), created)?;
        for warning in &created.warnings {
            self.progress.note(&format!("{name}: {warning}"));
        }
        if old.is_some() {
            self.replaced_services.borrow_mut().insert(service.to_owned());
        }
        for network in later {
            let request =
                ConnectRequest { container: created.id.clone(), endpoint_config: all.get(&network).cloned() };
            trying(
                format!("cannot connect {name} to {network}"),
                self.engine.connect(&network, &request).await,
            )?;
        }
        if !contents.is_empty() {
            let archive =
                archive(&contents).map_err(|error| ApplyError::Setting(format!("{name}: {error}")))?;
            let sent = self.engine.put_archive(&created.id, "/", archive).await;
            trying(format!("cannot copy secrets and configs into {name}"), sent)?;
        }
        Ok(created.id)
    }

    /// Fills in what only the running project and this machine know.
    fn complete(
        &self,
        request: &mut CreateRequest,
        service: &crate::model::Service,
    ) -> Result<(), ApplyError> {
        set_links(request, service, &self.target.project.name, &|name| self.names_of(name));
        complete_request(request, service, &|name| {
            self.ids_of(name).into_iter().next().ok_or_else(|| {
                ApplyError::Setting(format!("service \"{name}\" has no container to share with"))
            })
        })
    }

    /// Older engines take one network at creation; the names of the others are given back.
    fn keep_primary(&self, request: &mut CreateRequest, wanted: &crate::container::Wanted) -> Vec<String> {
        if self.engine.takes_several_networks() {
            return Vec::new();
        }
        primary_only(request, wanted)
    }

    async fn start(&self, service: &str, name: &str, id: Option<&str>) -> Result<(), ApplyError> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => match self.ids.borrow().get(name) {
                Some(id) => id.clone(),
                None => return Err(ApplyError::Setting(format!("container {name} was not created"))),
            },
        };
        self.before_start(service, name, &id).await?;
        trying(format!("cannot start container {name}"), self.engine.start(&id).await)?;
        let Some(model) = self.target.services.get(service) else { return Ok(()) };
        hooks::run_inside(self.engine, &id, service, "post_start", &model.post_start).await
    }

    /// The `pre_start` hooks that are due before a container starts: the service's where none of its containers ran
    /// yet, the replica's where it has not.
    pub async fn before_start(&self, service: &str, name: &str, id: &str) -> Result<(), ApplyError> {
        let replaced = self.replaced_services.borrow().contains(service);
        if replaced || !self.begun.contains(service) {
            self.run_pre_start(service, id).await?;
        }
        self.run_pre_start_of_replica(service, name, id).await
    }

    /// Once per service, however many replicas start.
    pub(super) async fn run_pre_start(&self, service: &str, container: &str) -> Result<(), ApplyError> {
        if self.target.services.get(service).is_none_or(|model| model.pre_start.is_empty()) {
            return Ok(());
        }
        let cell = self.hooked.borrow_mut().entry(service.to_owned()).or_default().clone();
        cell.get_or_try_init(|| {
            hooks::pre_start(self.engine, self.target, service, container, None, self.progress)
        })
        .await?;
        Ok(())
    }

    /// Hooks with `per_replica`, before the first start of a container.
    pub(super) async fn run_pre_start_of_replica(
        &self,
        service: &str,
        name: &str,
        container: &str,
    ) -> Result<(), ApplyError> {
        if self.ran_before.contains(container) {
            return Ok(());
        }
        hooks::pre_start(self.engine, self.target, service, container, Some(name), self.progress).await
    }

    pub(super) async fn stop(&self, service: &str, name: &str, id: &str) -> Result<(), ApplyError> {
        if let Some(model) = self.target.services.get(service)
            && !model.pre_stop.is_empty()
            // A container that does not run has no place for a hook.
            && self.engine.inspect(id).await.is_ok_and(|container| container.state.running)
            && let Err(error) = hooks::run_inside(self.engine, id, service, "pre_stop", &model.pre_stop).await
        {
            self.progress.note(&format!("{name}: {error}"));
        }
        trying(format!("cannot stop container {name}"), self.engine.stop(id, self.settings.timeout).await)
    }

    async fn wait(&self, service: &str, condition: Condition, required: bool) -> Result<Outcome, ApplyError> {
        let watch = self.watch().await?;
        let path = self.path_to(service);
        for id in self.ids_of(service) {
            match health::wait_for(self.engine, watch, &id, condition, &path).await {
                Err(error @ ApplyError::Container(_)) if !required => {
                    self.progress.note(&format!("optional dependency {service}: {error}"));
                    return Ok(Outcome::Skipped("Failed, but optional".to_owned()));
                }
                other => other?,
            }
        }
        Ok(Outcome::Done)
    }

    /// Waits until all containers of the services run, and are healthy where they have a check.
    pub async fn wait_until_up(&self, services: &[&str]) -> Result<(), ApplyError> {
        let watch = self.watch().await?;
        for service in services {
            let completed = self.target.services.values().any(|other| {
                other
                    .depends_on
                    .get(*service)
                    .is_some_and(|d| d.condition == Condition::ServiceCompletedSuccessfully)
            });
            for id in self.ids_of(service) {
                let container = trying(format!("cannot inspect {id}"), self.engine.inspect(&id).await)?;
                let condition = match &container.state.health {
                    _ if completed => Condition::ServiceCompletedSuccessfully,
                    Some(health) if health.status != "none" => Condition::ServiceHealthy,
                    _ => Condition::ServiceStarted,
                };
                health::wait_for(self.engine, watch, &id, condition, &[(*service).to_owned()]).await?;
            }
        }
        Ok(())
    }

    /// Who needs a service, outermost first.
    fn path_to(&self, service: &str) -> Vec<String> {
        let mut path = vec![service.to_owned()];
        while let Some((name, _)) = self
            .target
            .services
            .iter()
            .find(|(name, model)| model.depends_on.contains_key(&path[0]) && !path.contains(name))
        {
            path.insert(0, name.clone());
        }
        path
    }

    async fn remove_network(&self, name: &str, id: &str) -> Result<Outcome, ApplyError> {
        match self.engine.remove_network(id).await {
            // In use by a container outside of the project.
            Err(error) if matches!(error.status(), Some(403 | 409)) => {
                Ok(Outcome::Skipped("Resource is still in use".to_owned()))
            }
            answer => trying(format!("cannot remove network {name}"), answer).map(|()| Outcome::Done),
        }
    }

    async fn remove_volume(&self, name: &str) -> Result<Outcome, ApplyError> {
        match self.engine.remove_volume(name).await {
            Err(error) if error.status() == Some(409) => {
                Ok(Outcome::Skipped("Resource is still in use".to_owned()))
            }
            answer => trying(format!("cannot remove volume {name}"), answer).map(|()| Outcome::Done),
        }
    }

    async fn remove_image(&self, name: &str) -> Result<Outcome, ApplyError> {
        match self.engine.remove_image(name).await {
            Ok(true) => Ok(Outcome::Done),
            Ok(false) => Ok(Outcome::Skipped("No such image".to_owned())),
            Err(error) if error.status() == Some(409) => {
                Ok(Outcome::Skipped("Resource is still in use".to_owned()))
            }
            Err(error) => Err(ApplyError::engine(format!("cannot remove image {name}"))(error)),
        }
    }
}

/// What a step came to.
pub(super) enum Outcome {
    Done,
    /// Not done, and that is no failure; why.
    Skipped(String),
}

/// Subject, word while it happens, word when it has.
fn words(action: &Action) -> (String, &'static str, &'static str) {
    let network = |name: &str| format!("Network {name}");
    let container = |name: &str| format!("Container {name}");
    match action {
        Action::CreateNetwork { name, .. } => (network(name), "Creating", "Created"),
        Action::RecreateNetwork { name, .. } => (network(name), "Recreate", "Recreated"),
        Action::RemoveNetwork { name, .. } => (network(name), "Removing", "Removed"),
        Action::CreateVolume { name, .. } => (format!("Volume {name}"), "Creating", "Created"),
        Action::RemoveVolume { name } => (format!("Volume {name}"), "Removing", "Removed"),
        Action::RemoveImage { name } => (format!("Image {name}"), "Removing", "Removed"),
        Action::Create { name, .. } => (container(name), "Creating", "Created"),
        Action::Recreate { name, .. } => (container(name), "Recreate", "Recreated"),
        Action::Rename { name, .. } => (container(name), "Renaming", "Renamed"),
        Action::Start { name, .. } => (container(name), "Starting", "Started"),
        Action::Stop { name, .. } => (container(name), "Stopping", "Stopped"),
        Action::Remove { name, .. } => (container(name), "Removing", "Removed"),
        Action::Wait { service, condition, .. } => {
            let done = match condition {
                Condition::ServiceHealthy => "Healthy",
                Condition::ServiceCompletedSuccessfully => "Exited",
                Condition::ServiceStarted => "Started",
            };
            (format!("Service {service}"), "Waiting", done)
        }
    }
}
