//! Removal and pruning: what the store does, told in Docker's words and events.

use ferry_api::image::{DeleteItem, PruneResponse};
use ferry_oci::Digest;
use ferry_store::{Image, RemoveError, RemoveOptions, Removed};

use super::{emit, users_of};
use crate::engine::Engine;

/// `DELETE /images/{name}`.
pub fn remove(engine: &Engine, name: &str, options: RemoveOptions) -> Result<Vec<DeleteItem>, RemoveError> {
    let id = engine.store.images().resolve(name)?.id.clone();
    let users = |id: &Digest| users_of(engine, id);
    let removed = engine.store.images().remove(name, options, &users)?;
    Ok(removed.into_iter().map(|step| tell(engine, &id, step)).collect())
}

/// `POST /images/prune`: images that `wanted` chooses and no container uses.
pub fn prune(engine: &Engine, wanted: &dyn Fn(&Image) -> bool) -> Result<PruneResponse, RemoveError> {
    let store = &engine.store;
    let total = || store.layers().list().iter().map(|layer| layer.size).sum::<u64>();
    let users = |id: &Digest| users_of(engine, id);
    let before = total();
    let mut items = Vec::new();
    for image in store.images().list().into_iter().filter(|image| wanted(image)) {
        let only_this = |candidate: &Image| candidate.id == image.id;
        let removed = store.images().prune(&only_this, &users)?;
        items.extend(removed.into_iter().map(|step| tell(engine, &image.id, step)));
    }
    let space_reclaimed = before.saturating_sub(total());
    let attributes = [("reclaimed".to_owned(), space_reclaimed.to_string())].into();
    engine.events.emit("image", "prune", "", attributes);
    Ok(PruneResponse { images_deleted: (!items.is_empty()).then_some(items), space_reclaimed })
}

fn tell(engine: &Engine, id: &Digest, step: Removed) -> DeleteItem {
    match step {
        Removed::Untagged(untagged) => {
            emit(engine, "untag", &id.to_string(), &id.to_string());
            DeleteItem { untagged, ..DeleteItem::default() }
        }
        Removed::Deleted(deleted) => {
            let deleted = deleted.to_string();
            emit(engine, "delete", &deleted, &deleted);
            DeleteItem { deleted, ..DeleteItem::default() }
        }
        Removed::DeletedLayer(chain_id) => {
            DeleteItem { deleted: chain_id.to_string(), ..DeleteItem::default() }
        }
    }
}
