//! Whether a container is still what its service wants, and if not, why.

use crate::found::{Found, FoundContainer};
use crate::hash;
use crate::labels;
use crate::model::Service;
use crate::target::Target;

/// Whether the hash alone does not tell: the container must be inspected and compared field by field.
pub fn needs_inspection(target: &Target, container: &FoundContainer) -> bool {
    !container.oneoff
        && !container.hook
        && target
            .services
            .get(&container.service)
            .is_some_and(|service| shares_unlisted(service) || !same_hash(target, container))
}

/// Whether the service shares a namespace that the engine's list of containers does not tell.
fn shares_unlisted(service: &Service) -> bool {
    [&service.ipc, &service.pid, &service.uts].into_iter().flatten().any(|mode| mode.starts_with("service:"))
}

fn same_hash(target: &Target, container: &FoundContainer) -> bool {
    match container.hash_version.as_deref() {
        Some(version) => {
            version == hash::VERSION && container.hash.as_ref() == target.hashes.get(&container.service)
        }
        // Docker Compose made it of the very same configuration.
        None => container
            .summary
            .labels
            .get(labels::CONFIG_HASH)
            .is_some_and(|found| target.docker_hashes.services.get(&container.service) == Some(found)),
    }
}

/// Why a container must be replaced; empty when it need not be.
pub(super) fn reasons(target: &Target, found: &Found, container: &FoundContainer) -> Vec<String> {
    let mut reasons = configuration(target, container);
    reasons.extend(image(target, container));
    reasons.extend(networks(target, found, container));
    reasons.extend(volumes(target, container));
    reasons.extend(shared_namespaces(target, found, container));
    reasons
}

fn configuration(target: &Target, container: &FoundContainer) -> Vec<String> {
    if same_hash(target, container) {
        return Vec::new();
    }
    let changes: Vec<String> = container.drift.iter().flatten().map(ToString::to_string).collect();
    let own = container.hash_version.as_deref() == Some(hash::VERSION);
    // A hash of another program or version says nothing by itself: only a field that differs does.
    if changes.is_empty() && own {
        return vec!["its configuration changed".to_owned()];
    }
    changes
}

fn image(target: &Target, container: &FoundContainer) -> Option<String> {
    let name = target.image(&container.service);
    let current = target.image_ids.get(&name)?;
    let used = container.image.as_ref()?;
    (used != current).then(|| format!("image {name}: {} -> {}", short(used), short(current)))
}

fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// Attached to every network it should be on, by id: a network of the same name may be another one.
fn networks(target: &Target, found: &Found, container: &FoundContainer) -> Vec<String> {
    let Some(service) = target.services.get(&container.service) else { return Vec::new() };
    let mut reasons = Vec::new();
    for key in service.networks.keys() {
        let Some(network) = target.networks.get(key) else { continue };
        let Some(current) = found.networks.get(&network.name) else { continue };
        let attached = container.networks.get(&network.name);
        // A container that was never started shows no id.
        let same = attached.is_some_and(|id| *id == current.id || id.is_empty());
        if !same && (container.status.is_up() || attached.is_some()) {
            reasons.push(format!("it is not attached to network {}", network.name));
        }
    }
    reasons
}

/// A container that shares a namespace of one that is gone can never start again.
fn shared_namespaces(target: &Target, found: &Found, container: &FoundContainer) -> Option<String> {
    let service = target.services.get(&container.service)?;
    let network = container.summary.host_config.network_mode.strip_prefix("container:");
    let shared = |field: &str| container.shared.get(field).map(String::as_str);
    [
        ("network", &service.network_mode, network),
        ("ipc", &service.ipc, shared("ipc")),
        ("pid", &service.pid, shared("pid")),
        ("uts", &service.uts, shared("uts")),
    ]
    .into_iter()
    .find_map(|(what, mode, id)| {
        let (parent, id) = (mode.as_ref()?.strip_prefix("service:")?, id?);
        let exists = found.containers.iter().any(|other| other.id == id && other.service == parent);
        (!exists).then(|| format!("the container of \"{parent}\" whose {what} it shares is gone"))
    })
}

fn volumes(target: &Target, container: &FoundContainer) -> Vec<String> {
    let Some(service) = target.services.get(&container.service) else { return Vec::new() };
    let mounts = service.volumes.iter().filter(|mount| mount.kind == "volume");
    mounts
        .filter_map(|mount| {
            let volume = target.volumes.get(mount.source.as_deref()?)?;
            let mounted = container.volumes.get(&mount.target);
            (mounted != Some(&volume.name))
                .then(|| format!("volume {} is not mounted at {}", volume.name, mount.target))
        })
        .collect()
}
