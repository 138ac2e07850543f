//! The plan of `down`, and of what belongs to nobody any more.

use super::{Action, Plan};
use crate::found::{Found, FoundContainer};
use crate::labels;
use crate::target::Target;
use std::collections::{BTreeMap, BTreeSet};

/// What `down` is told.
#[derive(Clone, Debug, Default)]
pub struct DownOptions {
    /// Services named; none: the whole project.
    pub services: Vec<String>,
    /// Remove containers of services the project no longer has.
    pub remove_orphans: bool,
    /// Remove named and anonymous volumes.
    pub volumes: bool,
    /// Images to remove, by name.
    pub images: Vec<String>,
}

/// Containers of the project whose service it does not have, and ended ones of `run`.
pub(super) fn orphans<'a>(target: &Target, found: &'a Found) -> Vec<&'a FoundContainer> {
    let known = |service: &str| {
        target.services.contains_key(service) || target.project.disabled.contains_key(service)
    };
    found
        .containers
        .iter()
        .filter(|container| !container.hook)
        .filter(|container| !known(&container.service) || container.oneoff && !container.status.is_up())
        .collect()
}

/// Plans what takes the project down.
pub fn down(target: &Target, found: &Found, options: &DownOptions) -> Plan {
    let mut plan = Plan::default();
    let orphaned: BTreeSet<&str> = orphans(target, found).iter().map(|c| c.id.as_str()).collect();
    let selected: Vec<&FoundContainer> = found
        .containers
        .iter()
        .filter(|c| options.services.is_empty() || options.services.contains(&c.service))
        .filter(|c| {
            let ours =
                target.services.contains_key(&c.service) || target.project.tree.get("services").is_none();
            ours || options.remove_orphans && orphaned.contains(c.id.as_str())
        })
        .collect();
    let depends_on = dependencies(target, &selected);
    let mut removed = Vec::new();
    for (container, stop) in push_stops(&mut plan, &selected, &depends_on) {
        let action = Action::Remove {
            service: container.service.clone(),
            name: container.name.clone(),
            id: container.id.clone(),
            volumes: options.volumes,
        };
        removed.push(plan.push(action, stop.into_iter().collect(), Vec::new()));
    }
    if options.services.is_empty() {
        resources(target, found, options, &mut plan, &removed);
    }
    if !orphaned.is_empty() && !options.remove_orphans && options.services.is_empty() {
        let names: Vec<&str> = orphans(target, found)
            .into_iter()
            .filter(|c| !target.services.contains_key(&c.service))
            .map(|c| c.name.as_str())
            .collect();
        if !names.is_empty() {
            plan.warnings.push(format!(
                "found orphan containers ({}) for this project; --remove-orphans removes them",
                names.join(", ")
            ));
        }
    }
    plan
}

/// Plans the stop of the named services' containers (all when none is named), those of `run` left alone.
pub fn stop(target: &Target, found: &Found, services: &[String]) -> Plan {
    let selected: Vec<&FoundContainer> = found
        .containers
        .iter()
        .filter(|c| !c.oneoff && !c.hook && (services.is_empty() || services.contains(&c.service)))
        .filter(|c| target.services.contains_key(&c.service) || target.services.is_empty())
        .collect();
    let mut plan = Plan::default();
    let depends_on = dependencies(target, &selected);
    push_stops(&mut plan, &selected, &depends_on);
    plan
}

/// A stop for each container that runs, after those of everything that depends on its service.
fn push_stops<'a>(
    plan: &mut Plan,
    selected: &[&'a FoundContainer],
    depends_on: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<(&'a FoundContainer, Option<usize>)> {
    let mut stops: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut out = Vec::new();
    for container in in_reverse_order(selected, depends_on) {
        let after: Vec<usize> = depends_on
            .iter()
            .filter(|(_, needs)| needs.contains(container.service.as_str()))
            .flat_map(|(dependent, _)| stops.get(dependent.as_str()).into_iter().flatten().copied())
            .collect();
        let step = container.status.is_up().then(|| {
            let action = Action::Stop {
                service: container.service.clone(),
                name: container.name.clone(),
                id: container.id.clone(),
            };
            plan.push(action, after, Vec::new())
        });
        if let Some(step) = step {
            stops.entry(&container.service).or_default().push(step);
        }
        out.push((container, step));
    }
    out
}

fn resources(target: &Target, found: &Found, options: &DownOptions, plan: &mut Plan, removed: &[usize]) {
    let external_networks: BTreeSet<&str> =
        target.networks.values().filter(|n| n.external).map(|n| n.name.as_str()).collect();
    let project = Some(target.project.name.as_str());
    for (name, network) in &found.networks {
        if network.project.as_deref() == project && !external_networks.contains(name.as_str()) {
            let action = Action::RemoveNetwork { name: name.clone(), id: network.id.clone() };
            plan.push(action, removed.to_vec(), Vec::new());
        }
    }
    if options.volumes {
        let external: BTreeSet<&str> =
            target.volumes.values().filter(|v| v.external).map(|v| v.name.as_str()).collect();
        for (name, volume) in &found.volumes {
            if volume.project.as_deref() == project && !external.contains(name.as_str()) {
                plan.push(Action::RemoveVolume { name: name.clone() }, removed.to_vec(), Vec::new());
            }
        }
    }
    let images: BTreeSet<&String> = options.images.iter().collect();
    for name in images {
        plan.push(Action::RemoveImage { name: name.clone() }, removed.to_vec(), Vec::new());
    }
}

/// What each service needs: from the Compose file, else from the containers' labels.
fn dependencies(target: &Target, containers: &[&FoundContainer]) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for container in containers {
        let needs: BTreeSet<String> = match target.services.get(&container.service) {
            Some(service) => service.depends_on.keys().cloned().collect(),
            None => {
                let label = container.summary.labels.get(labels::DEPENDS_ON).map_or("", String::as_str);
                label
                    .split(',')
                    .filter_map(|part| part.split(':').next())
                    .filter(|n| !n.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
        };
        all.insert(container.service.clone(), needs);
    }
    all
}

/// Dependents before what they depend on.
fn in_reverse_order<'a>(
    containers: &[&'a FoundContainer],
    depends_on: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<&'a FoundContainer> {
    fn depth(
        service: &str,
        depends_on: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
    ) -> usize {
        if path.iter().any(|known| known == service) {
            return 0;
        }
        path.push(service.to_owned());
        let needs = depends_on.get(service).into_iter().flatten();
        let deepest = needs.map(|need| depth(need, depends_on, path) + 1).max().unwrap_or(0);
        path.pop();
        deepest
    }
    let mut ordered: Vec<&FoundContainer> = containers.to_vec();
    ordered.sort_by_key(|container| {
        let level = depth(&container.service, depends_on, &mut Vec::new());
        (std::cmp::Reverse(level), container.service.clone(), container.number)
    });
    ordered
}
