//! Volumes of containers: made at creation, filled from the image when new, removed with an anonymous owner.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_store::volume::{ANONYMOUS_LABEL, VolumeSpec};
use ferry_store::{Image, VolumeError};

use super::Container;
use super::create::CreateError;
use super::record::Record;
use crate::engine::Engine;
use crate::spec::mounts::{MountKind, MountPlan};

/// Finds or makes the volume of a plan and fills in its source. Gives the name when it was made just now.
pub fn provide(engine: &Engine, plan: &mut MountPlan, image: &Image) -> Result<Option<String>, CreateError> {
    if plan.kind != MountKind::Volume || !plan.source.is_empty() {
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
    plan.name.clone_from(&volume.name);
    plan.source = volume.mountpoint.display().to_string();
    let made = (!existed).then(|| volume.name.clone());
    if made.is_some() {
        let attributes = BTreeMap::from([("driver".to_owned(), volume.driver.clone())]);
        engine.events.emit("volume", "create", &volume.name, attributes);
    }
    if !plan.no_copy && plan.subpath.is_empty() && is_empty(&volume.mountpoint) {
        let lowers = engine.store.snapshots().lowers(&image.diff_ids())?;
        volumes.fill(&volume.name, |directory| {
            super::copy_up::copy_up(&lowers, &plan.destination, directory)
                .map_err(|source| CreateError::CopyUp { volume: volume.name.clone(), source })
        })?;
    }
    Ok(made)
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes the anonymous volumes of a container that is gone; one that somebody else uses stays.
pub fn remove_anonymous(engine: &Engine, record: &Record) {
    for plan in record.mounts.iter().filter(|plan| plan.kind == MountKind::Volume && plan.anonymous) {
        if users(engine, &plan.name).iter().any(|user| user.id != record.id) {
            continue;
        }
        match engine.store.volumes().remove(&plan.name) {
            Ok(()) => {
                let attributes = BTreeMap::from([("driver".to_owned(), plan.driver.clone())]);
                engine.events.emit("volume", "destroy", &plan.name, attributes);
            }
            Err(VolumeError::NotFound(_)) => {}
            Err(error) => tracing::warn!(volume = %plan.name, %error, "remove an anonymous volume"),
        }
    }
}

/// The containers that mount a volume.
pub fn users(engine: &Engine, volume: &str) -> Vec<std::sync::Arc<Container>> {
    let uses = |container: &std::sync::Arc<Container>| {
        let inner = container.lock();
        inner.record.mounts.iter().any(|plan| plan.kind == MountKind::Volume && plan.name == volume)
    };
    engine.containers.all().into_iter().filter(uses).collect()
}
