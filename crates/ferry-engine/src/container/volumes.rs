//! Volumes of containers: made at creation, filled from the image when new, removed with an anonymous owner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use ferry_store::volume::{ANONYMOUS_LABEL, VolumeSpec};
use ferry_store::{Image, Volume, VolumeError};

use super::Container;
use super::create::CreateError;
use super::record::Record;
use crate::engine::Engine;
use crate::spec::mounts::{MountKind, MountPlan};
use crate::volume::Wanted;

/// Finds or makes the volume of a plan and fills in its source. Gives the name when it was made just now;
/// what is added to `wanted` is to be kept until the container can be found.
pub fn provide(
    engine: &Engine,
    plan: &mut MountPlan,
    image: &Image,
    wanted: &mut Vec<Wanted>,
) -> Result<Option<String>, CreateError> {
    if plan.kind != MountKind::Volume {
        return Ok(None);
    }
    if !plan.name.is_empty() {
        wanted.push(engine.live_volumes.want(&plan.name));
    }
    if !plan.source.is_empty() {
        return Ok(None);
    }
    let volumes = engine.store.volumes();
    let existed = !plan.name.is_empty() && volumes.get(&plan.name).is_ok();
    let mut labels = plan.volume_labels.clone();
    if plan.anonymous {
        labels.insert(ANONYMOUS_LABEL.into(), String::new());
    }
    let volume = volumes.create(VolumeSpec {
        name: (!plan.name.is_empty()).then(|| plan.name.clone()),
        driver: Some(plan.driver.clone()),
        options: plan.volume_options.clone(),
        labels,
    })?;
    if plan.name.is_empty() {
        wanted.push(engine.live_volumes.want(&volume.name));
    }
    plan.name.clone_from(&volume.name);
    plan.source = volume.mountpoint.display().to_string();
    let made = (!existed).then(|| volume.name.clone());
    if made.is_some() {
        let attributes = BTreeMap::from([("driver".to_owned(), volume.driver.clone())]);
        engine.events.emit("volume", "create", &volume.name, attributes);
    }
    if !plan.no_copy && plan.subpath.is_empty() {
        let filled = copy_up(engine, plan, &volume, image);
        if let (Err(_), Some(name)) = (&filled, &made)
            && let Err(error) = volumes.remove(name)
        {
            tracing::warn!(volume = %name, %error, "take back a volume");
        }
        filled?;
    }
    Ok(made)
}

/// Puts what the image has at the mount's place into a volume that is empty.
fn copy_up(engine: &Engine, plan: &MountPlan, volume: &Volume, image: &Image) -> Result<(), CreateError> {
    let _held = engine.live_volumes.hold(volume)?;
    if !is_empty(&volume.mountpoint) {
        return Ok(());
    }
    let lowers = engine.store.snapshots().lowers(&image.diff_ids())?;
    engine.store.volumes().fill(&volume.name, |directory| {
        ferry_store::copy::copy_merged(&lowers, &plan.destination, directory)
            .map_err(|source| CreateError::CopyUp { volume: volume.name.clone(), source })
    })
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes the anonymous volumes of a container that is gone, with one durable write; one that somebody else uses
/// stays.
pub fn remove_anonymous(engine: &Engine, record: &Record) {
    let own = record.mounts.iter().filter(|plan| plan.kind == MountKind::Volume && plan.anonymous);
    let mut drivers: BTreeMap<String, String> =
        own.map(|plan| (plan.name.clone(), plan.driver.clone())).collect();
    if drivers.is_empty() {
        return;
    }
    for other in engine.containers.all().into_iter().filter(|other| other.id != record.id) {
        other.lock().record.mounts.iter().for_each(|plan| drop(drivers.remove(&plan.name)));
    }
    drivers.retain(|name, _| match engine.store.volumes().get(name) {
        Ok(volume) => {
            engine.live_volumes.release_unused(&volume);
            true
        }
        Err(_) => false,
    });
    let names: Vec<String> = drivers.keys().cloned().collect();
    // Where one of them cannot go, the others go all the same.
    let one_by_one = engine.store.volumes().remove_all(&names).is_err();
    for (name, driver) in drivers {
        match if one_by_one { engine.store.volumes().remove(&name) } else { Ok(()) } {
            Ok(()) => {
                let attributes = BTreeMap::from([("driver".to_owned(), driver)]);
                engine.events.emit("volume", "destroy", &name, attributes);
            }
            Err(VolumeError::NotFound(_)) => {}
            Err(error) => tracing::warn!(volume = %name, %error, "remove an anonymous volume"),
        }
    }
}

/// How many containers mount each volume.
pub fn users_by_volume(engine: &Engine) -> HashMap<String, i64> {
    let mut users = HashMap::new();
    for container in engine.containers.all() {
        let inner = container.lock();
        let volumes = inner.record.mounts.iter().filter(|plan| plan.kind == MountKind::Volume);
        let names: BTreeSet<&str> = volumes.map(|plan| plan.name.as_str()).collect();
        for name in names {
            *users.entry(name.to_owned()).or_default() += 1;
        }
    }
    users
}

/// The containers that mount a volume.
pub fn users(engine: &Engine, volume: &str) -> Vec<std::sync::Arc<Container>> {
    let uses = |container: &std::sync::Arc<Container>| {
        let inner = container.lock();
        inner.record.mounts.iter().any(|plan| plan.kind == MountKind::Volume && plan.name == volume)
    };
    engine.containers.all().into_iter().filter(uses).collect()
}
