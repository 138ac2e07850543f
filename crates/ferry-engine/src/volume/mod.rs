//! Volumes as the engine uses them: mounted while somebody needs them, frozen while they are copied.
//!
//! What a volume is and where its data lies is `ferry-store`'s business; which container uses one is in the
//! containers' records.

mod freeze;
mod live;
mod mount;

use crate::container::record::Record;
use crate::engine::Engine;
use crate::spec::mounts::MountKind;

pub use freeze::{FreezeError, Frozen, freeze_writers};
pub use live::{Hold, LiveVolumes, Wanted};
pub use mount::MountError;

/// Holds every volume of a container that has something mounted while it is used. May wait for a server
/// in the network, so never on a thread that serves others.
pub fn hold_all(engine: &Engine, record: &Record) -> Result<Vec<Hold>, MountError> {
    let mut holds = Vec::new();
    for plan in record.mounts.iter().filter(|plan| plan.kind == MountKind::Volume) {
        // One that is gone is the runtime's to complain about, with the mount's place.
        let Ok(volume) = engine.store.volumes().get(&plan.name) else { continue };
        holds.extend(engine.live_volumes.hold(&volume)?);
    }
    Ok(holds)
}

/// Whether a start has to wait for [`hold_all`].
pub fn needs_holds(engine: &Engine, record: &Record) -> bool {
    let volumes = record.mounts.iter().filter(|plan| plan.kind == MountKind::Volume);
    let mut known = volumes.filter_map(|plan| engine.store.volumes().get(&plan.name).ok());
    known.any(|volume| volume.device().is_some())
}

/// Unmounts what an engine that died left mounted for nobody.
pub fn sweep(engine: &Engine) {
    for volume in engine.store.volumes().list() {
        engine.live_volumes.release_unused(&volume);
    }
}
