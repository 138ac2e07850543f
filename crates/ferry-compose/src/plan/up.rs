//! The plan of `up`, `create` and `scale`.

use super::divergence;
use super::{Action, Back, OnFailure, Plan, PlanError, Recreate, Update};
use crate::diagnostic::nearest;
use crate::found::{Found, FoundContainer, Status};
use crate::model::{Condition, Service, UpdateConfig};
use crate::target::Target;
use std::collections::{BTreeMap, BTreeSet};

/// What `up` is told.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Services named; none: all.
    pub services: Vec<String>,
    /// When named services are recreated.
    pub recreate: Recreate,
    /// When the services they depend on are.
    pub recreate_dependencies: Recreate,
    /// Anonymous volumes go over to new containers.
    pub inherit_volumes: bool,
    /// Numbers of containers, by service.
    pub scale: BTreeMap<String, usize>,
    /// Remove containers of services the project no longer has.
    pub remove_orphans: bool,
    /// Say nothing of them.
    pub ignore_orphans: bool,
    /// Leave dependencies alone.
    pub no_dependencies: bool,
    /// Start what is created.
    pub start: bool,
    /// The service a container of `run` is made for: what it needs is brought up and waited for, its own
    /// containers are left alone.
    pub one_off: Option<String>,
}

impl Default for UpOptions {
    fn default() -> Self {
        UpOptions {
            services: Vec::new(),
            recreate: Recreate::Diverged,
            recreate_dependencies: Recreate::Diverged,
            inherit_volumes: true,
            scale: BTreeMap::new(),
            remove_orphans: false,
            ignore_orphans: false,
            no_dependencies: false,
            start: true,
            one_off: None,
        }
    }
}

/// Plans what brings the project up.
pub fn up(target: &Target, found: &Found, options: &UpOptions) -> Result<Plan, PlanError> {
    let known = target.services.keys();
    for name in options.services.iter().chain(options.scale.keys()) {
        if !target.services.contains_key(name) {
            return Err(no_such_service(name, known.clone().map(String::as_str), found));
        }
    }
    let mut planner = Planner {
        target,
        found,
        options,
        plan: Plan::default(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        services: BTreeMap::new(),
        waits: BTreeMap::new(),
        recreated: BTreeSet::new(),
        new_networks: BTreeSet::new(),
    };
    let selected = target.selected(&options.services, !options.no_dependencies);
    planner.resources(&selected)?;
    let is_one_off = |name: &str| options.one_off.as_deref() == Some(name);
    for name in selected.iter().filter(|name| !is_one_off(name)) {
        planner.service(name)?;
    }
    if options.start {
        for name in &selected {
            match target.services.get(*name) {
                Some(service) if is_one_off(name) => drop(planner.conditions(service)),
                _ => planner.start(name),
            }
        }
    }
    planner.orphans();
    Ok(planner.plan)
}

/// A container's name or id where a service is wanted tells which service is meant.
fn no_such_service<'a>(name: &str, known: impl Iterator<Item = &'a str>, found: &Found) -> PlanError {
    let container = found
        .containers
        .iter()
        .find(|container| container.name == name || name.len() >= 4 && container.id.starts_with(name));
    let hint = match container {
        Some(container) => Some(format!(
            "\"{name}\" is a container; its service is \"{}\", as in --scale {}=3",
            container.service, container.service
        )),
        None => nearest(name, known).map(|candidate| format!("did you mean \"{candidate}\"?")),
    };
    PlanError::NoSuchService { name: name.to_owned(), hint }
}

/// What the plan does with the containers of one service.
#[derive(Default)]
struct ServiceSteps {
    /// Steps after which its containers exist.
    ready: Vec<usize>,
    /// Containers to start: name, id of an existing one, the step that makes it.
    to_start: Vec<(String, Option<String>, Option<usize>)>,
    /// Steps after which its containers run.
    started: Vec<usize>,
    /// How many are wanted.
    count: usize,
}

struct Planner<'a> {
    target: &'a Target,
    found: &'a Found,
    options: &'a UpOptions,
    plan: Plan,
    networks: BTreeMap<String, usize>,
    volumes: BTreeMap<String, usize>,
    services: BTreeMap<String, ServiceSteps>,
    waits: BTreeMap<(String, &'static str), usize>,
    recreated: BTreeSet<String>,
    new_networks: BTreeSet<String>,
}

impl<'a> Planner<'a> {
    /// Networks and volumes the selected services use.
    fn resources(&mut self, selected: &[&str]) -> Result<(), PlanError> {
        let services: Vec<&'a Service> =
            selected.iter().filter_map(|name| self.target.services.get(*name)).collect();
        let networks: BTreeSet<&str> =
            services.iter().flat_map(|s| s.networks.keys()).map(String::as_str).collect();
        for key in networks {
            self.network(key)?;
        }
        let volumes: BTreeSet<&str> = services
            .iter()
            .flat_map(|s| &s.volumes)
            .filter(|mount| mount.kind == "volume")
            .filter_map(|mount| mount.source.as_deref())
            .collect();
        for key in volumes {
            self.volume(key)?;
        }
        Ok(())
    }

    fn network(&mut self, key: &str) -> Result<(), PlanError> {
        let Some(network) = self.target.networks.get(key) else { return Ok(()) };
        let name = network.name.clone();
        let hash = self.target.network_hashes.get(key);
        match self.found.networks.get(&name) {
            None if network.external => {
                // The networks every engine has are never listed under a project.
                return if matches!(name.as_str(), "host" | "bridge" | "none") {
                    Ok(())
                } else {
                    Err(PlanError::NoExternalNetwork { name })
                };
            }
            None => {
                let action = Action::CreateNetwork { key: key.to_owned(), name };
                let step = self.plan.push(action, Vec::new(), vec!["it does not exist".to_owned()]);
                self.networks.insert(key.to_owned(), step);
            }
            Some(_) if network.external => {}
            Some(existing) if existing.project.is_none() => {
                self.plan.warnings.push(format!(
                    "network {name} exists but was not created by Compose; set \"external: true\" to use it without this warning"
                ));
            }
            Some(existing) if changed(existing, hash) => {
                let action = Action::RecreateNetwork { key: key.to_owned(), name, id: existing.id.clone() };
                let step = self.plan.push(action, Vec::new(), vec!["its configuration changed".to_owned()]);
                self.networks.insert(key.to_owned(), step);
                self.new_networks.insert(key.to_owned());
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn volume(&mut self, key: &str) -> Result<(), PlanError> {
        let Some(volume) = self.target.volumes.get(key) else { return Ok(()) };
        let name = volume.name.clone();
        match self.found.volumes.get(&name) {
            None if volume.external => return Err(PlanError::NoExternalVolume { name }),
            None => {
                let action = Action::CreateVolume { key: key.to_owned(), name };
                let step = self.plan.push(action, Vec::new(), vec!["it does not exist".to_owned()]);
                self.volumes.insert(key.to_owned(), step);
            }
            Some(_) if volume.external => {}
            Some(existing) => match &existing.project {
                None => self.plan.warnings.push(format!(
                    "volume {name} exists but was not created by Compose; set \"external: true\" to use it without this warning"
                )),
                Some(project) if *project != self.target.project.name => self.plan.warnings.push(format!(
                    "volume {name} exists but was created for project {project}; set \"external: true\" to use it"
                )),
                Some(_) if changed(existing, self.target.volume_hashes.get(key)) => self.plan.warnings.push(format!(
                    "volume {name} exists with another configuration and keeps it; remove it to have it created anew (its data would be lost)"
                )),
                Some(_) => {}
            },
        }
        Ok(())
    }

    /// Creation, replacement and removal of one service's containers.
    fn service(&mut self, name: &str) -> Result<(), PlanError> {
        let Some(service) = self.target.services.get(name) else { return Ok(()) };
        if service.provider.is_some() {
            return Ok(());
        }
        let count = self.options.scale.get(name).copied().unwrap_or_else(|| service.replicas());
        if let Some(fixed) = service.container_name.as_ref().filter(|_| count > 1) {
            let (service, name) = (name.to_owned(), fixed.clone());
            return Err(PlanError::NamedAndScaled { service, name, count });
        }
        let mut existing: Vec<(&'a FoundContainer, Vec<String>)> = self
            .found
            .containers
            .iter()
            .filter(|c| c.service == name && !c.oneoff && !c.hook && c.status != Status::Removing)
            .map(|container| (container, self.reasons(name, service, container)))
            .collect();
        self.leftovers(name, &mut existing);
        // Those to go come last: changed ones before unchanged ones, higher numbers before lower ones.
        existing
            .sort_by_key(|(container, reasons)| (!reasons.is_empty(), container.number.unwrap_or(u32::MAX)));
        let mut steps = ServiceSteps { count, ..ServiceSteps::default() };
        for (container, _) in existing.iter().skip(count) {
            self.remove(container, &format!("only {count} wanted"));
        }
        let next = existing.iter().filter_map(|(container, _)| container.number).max().unwrap_or(0) + 1;
        let missing = count.saturating_sub(existing.len());
        let mut kept: Vec<&(&FoundContainer, Vec<String>)> = existing.iter().take(count).collect();
        kept.sort_by_key(|(container, _)| container.number);
        let before = self.before_creation(service);
        let mut previous: Vec<usize> = Vec::new();
        for (container, reasons) in kept {
            self.keep_or_replace(name, service, container, reasons, &before, &mut previous, &mut steps);
        }
        for number in (next..).take(missing) {
            let container = self.target.container_name(name, number);
            let action = Action::Create { service: name.to_owned(), number, name: container.clone() };
            let step = self.plan.push(action, before.clone(), vec!["it does not exist".to_owned()]);
            steps.ready.push(step);
            steps.to_start.push((container, None, Some(step)));
        }
        self.services.insert(name.to_owned(), steps);
        Ok(())
    }

    /// New containers under a temporary name: an `up` was broken off in the middle of a replacement.
    fn leftovers(&mut self, name: &str, existing: &mut Vec<(&'a FoundContainer, Vec<String>)>) {
        let temporary = |container: &FoundContainer| {
            let number = container.number?;
            let own = self.target.container_name(name, number);
            let (id, rest) = container.name.split_once('_')?;
            (rest == own && id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then_some((number, own))
        };
        let found: Vec<(&'a FoundContainer, u32, String)> = existing
            .iter()
            .filter_map(|(container, _)| temporary(container).map(|(number, own)| (*container, number, own)))
            .collect();
        for (container, number, own) in found {
            let old_is_there =
                existing.iter().any(|(other, _)| other.number == Some(number) && other.id != container.id);
            if old_is_there {
                existing.retain(|(other, _)| other.id != container.id);
                self.remove(container, "an interrupted up left it behind");
            } else {
                let action = Action::Rename { service: name.to_owned(), name: own, id: container.id.clone() };
                self.plan.push(action, Vec::new(), vec!["an interrupted up left it behind".to_owned()]);
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one service's state on its way through its containers")]
    fn keep_or_replace(
        &mut self,
        name: &str,
        service: &Service,
        container: &FoundContainer,
        reasons: &[String],
        before: &[usize],
        previous: &mut Vec<usize>,
        steps: &mut ServiceSteps,
    ) {
        if reasons.is_empty() {
            if container.status == Status::Running {
                self.plan.unchanged.push(container.name.clone());
            } else {
                steps.to_start.push((container.name.clone(), Some(container.id.clone()), None));
            }
            return;
        }
        self.recreated.insert(name.to_owned());
        let mut after = before.to_vec();
        after.extend(self.stop_dependents(name));
        let update = service.deploy.as_ref().and_then(|deploy| deploy.update_config.as_ref());
        let parallelism = update.and_then(|update| update.parallelism).unwrap_or(0).max(0) as usize;
        // With a parallelism of n, each replacement waits for the n-th one before it.
        if parallelism > 0 && previous.len() >= parallelism {
            after.push(previous[previous.len() - parallelism]);
        }
        let number = container.number.unwrap_or(1);
        let final_name = self.target.container_name(name, number);
        let update = update.filter(|_| self.options.start).map(|update| Update {
            start_first: update.order.as_deref() == Some("start-first"),
            monitor: update.monitor,
            delay: update.delay.filter(|_| parallelism > 0 && previous.len() >= parallelism),
            on_failure: match update.failure_action.as_deref() {
                Some("continue") => OnFailure::Continue,
                Some("rollback") => OnFailure::Rollback,
                _ => OnFailure::Pause,
            },
            may_fail: (update.max_failure_ratio.unwrap_or(0.0).clamp(0.0, 1.0) * steps.count as f64) as usize,
            back: way_back(service.deploy.as_ref().and_then(|deploy| deploy.rollback_config.as_ref())),
        });
        let action = Action::Recreate {
            service: name.to_owned(),
            number,
            name: final_name.clone(),
            id: container.id.clone(),
            old_name: container.name.clone(),
            inherit_volumes: self.options.inherit_volumes,
            update,
        };
        let step = self.plan.push(action, after, reasons.to_vec());
        previous.push(step);
        steps.ready.push(step);
        steps.to_start.push((final_name, None, Some(step)));
    }

    /// Why a container is replaced, under the policy of its service.
    fn reasons(&self, name: &str, service: &Service, container: &FoundContainer) -> Vec<String> {
        let named = self.options.services.is_empty() || self.options.services.iter().any(|n| n == name);
        let policy = if named { self.options.recreate } else { self.options.recreate_dependencies };
        match policy {
            Recreate::Never => Vec::new(),
            Recreate::Force => vec!["--force-recreate".to_owned()],
            Recreate::Diverged => {
                let mut reasons = divergence::reasons(self.target, self.found, container);
                for parent in Target::shares_with(service) {
                    if self.recreated.contains(parent) {
                        reasons.push(format!("it shares with \"{parent}\", which is recreated"));
                    }
                }
                for key in service.networks.keys().filter(|key| self.new_networks.contains(*key)) {
                    reasons.push(format!("network {key} is recreated"));
                }
                reasons
            }
        }
    }

    /// Steps that must be done before a container of the service can be created.
    fn before_creation(&self, service: &Service) -> Vec<usize> {
        let networks = service.networks.keys().filter_map(|key| self.networks.get(key));
        let volumes = service.volumes.iter().filter_map(|mount| self.volumes.get(mount.source.as_deref()?));
        let mut before: Vec<usize> = networks.chain(volumes).copied().collect();
        for parent in Target::shares_with(service) {
            before
                .extend(self.services.get(parent).into_iter().flat_map(|steps| steps.ready.iter().copied()));
        }
        before
    }

    /// Running dependents with `restart: true` stop before what they depend on is replaced.
    fn stop_dependents(&mut self, name: &str) -> Vec<usize> {
        let mut stops = Vec::new();
        for (dependent, service) in &self.target.services {
            if !service.depends_on.get(name).is_some_and(|dependency| dependency.restart) {
                continue;
            }
            let running =
                self.found.containers.iter().filter(|c| c.service == *dependent && !c.oneoff && !c.hook);
            for container in running.filter(|container| container.status.is_up()) {
                let action = Action::Stop {
                    service: dependent.clone(),
                    name: container.name.clone(),
                    id: container.id.clone(),
                };
                if let Some(step) = self.plan.steps.iter().position(|step| step.action == action) {
                    stops.push(step);
                    continue;
                }
                stops.push(self.plan.push(action, Vec::new(), vec![format!("\"{name}\" is recreated")]));
            }
        }
        stops
    }

    /// Starts of one service, each after what its dependencies' conditions ask for.
    fn start(&mut self, name: &str) {
        let Some(service) = self.target.services.get(name) else { return };
        let mut to_start = match self.services.get_mut(name) {
            Some(steps) => std::mem::take(&mut steps.to_start),
            None => return,
        };
        // What was stopped for a dependency's sake starts again.
        for step in &self.plan.steps {
            if let Action::Stop { service, name: container, id } = &step.action
                && service == name
                && !to_start.iter().any(|(known, _, _)| known == container)
                && !self.is_removed_or_replaced(id)
            {
                to_start.push((container.clone(), Some(id.clone()), None));
                self.plan.unchanged.retain(|unchanged| unchanged != container);
            }
        }
        if to_start.is_empty() {
            return;
        }
        let before = self.conditions(service);
        let mut started = Vec::new();
        for (container, id, made_by) in to_start {
            let mut after = before.clone();
            after.extend(made_by);
            if let Some(id) = &id {
                let stops = |step: &super::Step| matches!(&step.action, Action::Stop { id: stopped, .. } if stopped == id);
                after.extend(self.plan.steps.iter().position(stops));
            }
            let action = Action::Start { service: name.to_owned(), name: container, id };
            started.push(self.plan.push(action, after, Vec::new()));
        }
        if let Some(steps) = self.services.get_mut(name) {
            steps.started = started;
        }
    }

    fn is_removed_or_replaced(&self, id: &str) -> bool {
        self.plan.steps.iter().any(|step| match &step.action {
            Action::Remove { id: gone, .. } | Action::Recreate { id: gone, .. } => gone == id,
            _ => false,
        })
    }

    /// Steps a service's start waits for.
    fn conditions(&mut self, service: &Service) -> Vec<usize> {
        let mut before = Vec::new();
        if self.options.no_dependencies {
            return before;
        }
        for (name, dependency) in &service.depends_on {
            let Some(steps) = self.services.get(name) else { continue };
            if steps.count == 0 {
                continue;
            }
            let started = steps.started.clone();
            if dependency.condition == Condition::ServiceStarted {
                before.extend(started);
                continue;
            }
            let key = (name.clone(), dependency.condition.as_str());
            let wait = match self.waits.get(&key) {
                Some(step) => *step,
                None => {
                    let action = Action::Wait {
                        service: name.clone(),
                        condition: dependency.condition,
                        required: dependency.required,
                    };
                    let step = self.plan.push(action, started, Vec::new());
                    self.waits.insert(key, step);
                    step
                }
            };
            before.push(wait);
        }
        before
    }

    fn remove(&mut self, container: &FoundContainer, reason: &str) {
        let mut after = Vec::new();
        if container.status.is_up() {
            let action = Action::Stop {
                service: container.service.clone(),
                name: container.name.clone(),
                id: container.id.clone(),
            };
            after.push(self.plan.push(action, Vec::new(), vec![reason.to_owned()]));
        }
        let action = Action::Remove {
            service: container.service.clone(),
            name: container.name.clone(),
            id: container.id.clone(),
            volumes: false,
        };
        self.plan.push(action, after, vec![reason.to_owned()]);
    }

    /// Containers of services the project does not have any more.
    fn orphans(&mut self) {
        let orphans = super::down::orphans(self.target, self.found);
        if orphans.is_empty() {
            return;
        }
        if self.options.remove_orphans {
            for container in orphans {
                self.remove(container, "its service is not in the Compose file");
            }
        } else if !self.options.ignore_orphans {
            let names: Vec<&str> = orphans.iter().map(|container| container.name.as_str()).collect();
            self.plan.warnings.push(format!(
                "found orphan containers ({}) for this project; if you removed or renamed this service in your compose file, \
                 you can run this command with the --remove-orphans flag to clean it up",
                names.join(", ")
            ));
        }
    }
}

/// Whether a resource of ours was made from another configuration. A foreign hash does not say.
/// `rollback_config`, with Docker's defaults.
fn way_back(config: Option<&UpdateConfig>) -> Back {
    let parallelism = config.and_then(|config| config.parallelism).unwrap_or(1).max(0) as usize;
    Back {
        parallelism: (parallelism > 0).then_some(parallelism),
        start_first: config.and_then(|config| config.order.as_deref()).map(|order| order == "start-first"),
        monitor: config.and_then(|config| config.monitor),
        delay: config.and_then(|config| config.delay),
        goes_on: config.is_some_and(|config| config.failure_action.as_deref() == Some("continue")),
    }
}

fn changed(existing: &crate::found::FoundResource, hash: Option<&String>) -> bool {
    existing.hash_version.as_deref() == Some(crate::hash::VERSION) && existing.hash.as_ref() != hash
}
