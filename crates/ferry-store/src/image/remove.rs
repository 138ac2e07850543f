//! Docker's `rmi`: what a removal takes away, and what stands against it.

use std::sync::Arc;

use ferry_oci::{Digest, Reference};

use super::error::{DeleteConflict, RemoveError};
use super::index::{Images, POISONED, with_tag};
use super::resolve::is_id_prefix;
use super::{Image, chain_ids};
use crate::database::Batch;

/// What a removal did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone (familiar form, names by digest too).
    Untagged(String),
    /// An image is gone.
    Deleted(Digest),
    /// A layer is gone, by its chain id, as Docker tells it.
    DeletedLayer(Digest),
}

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container_id: String,
    /// It runs; not even force removes the image.
    pub running: bool,
}

impl ImageUser {
    fn short(&self) -> String {
        self.container_id.chars().take(12).collect()
    }
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Remove in spite of several names or stopped containers.
    pub force: bool,
    /// Keep parents without names.
    pub no_prune: bool,
}

/// Which of the conflicts that force overrides are looked for.
struct Checks {
    references: bool,
    stopped: bool,
}

/// Who uses an image.
pub type Users<'a> = &'a dyn Fn(&Digest) -> Vec<ImageUser>;

impl Images {
    /// Removes a name, and with the last one the image; or, by id, the image with all its names.
    /// What containers use is the caller's knowledge (`users`).
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: Users<'_>,
    ) -> Result<Vec<Removed>, RemoveError> {
        let changing = self.changing.lock().expect(POISONED);
        let image = self.resolve(name)?;
        let mut removed = Vec::new();
        let by_name = !is_id_prefix(&image.id, name) || self.is_name_of(name, &image);
        if by_name {
            self.remove_name(name, &image, options, users, &mut removed)?;
            let rest = self.get(&image.id).map(|image| image.references.len()).unwrap_or(0);
            if rest > 0 {
                return Ok(removed);
            }
        } else if is_single_reference(&image.references) {
            // All its names go with it, so they do not stand against it.
            let checks = Checks { references: false, stopped: !options.force };
            let conflict = self.conflict(&image, users, checks);
            if let Some(conflict) = conflict {
                return Err(RemoveError::Delete { image: image.id.short().to_owned(), conflict });
            }
            self.untag_all(&image, &mut removed)?;
        }
        let removed_layers = self.delete(&image.id, options, by_name, users, &mut removed)?;
        drop(changing);
        self.collect(removed_layers, &mut removed)?;
        Ok(removed)
    }

    /// Removes the images for which `wanted` holds and that nothing uses.
    pub fn prune(
        &self,
        wanted: &dyn Fn(&Image) -> bool,
        users: Users<'_>,
    ) -> Result<Vec<Removed>, RemoveError> {
        let mut removed = Vec::new();
        for image in self.list() {
            if !wanted(&image) || !users(&image.id).is_empty() {
                continue;
            }
            let changing = self.changing.lock().expect(POISONED);
            let Some(image) = self.get(&image.id) else { continue };
            self.untag_all(&image, &mut removed)?;
            let options = RemoveOptions::default();
            let layers = self.delete(&image.id, options, true, users, &mut removed)?;
            drop(changing);
            self.collect(layers, &mut removed)?;
        }
        Ok(removed)
    }

    fn is_name_of(&self, text: &str, image: &Image) -> bool {
        Reference::parse_name(text).is_ok_and(|reference| {
            image.references.contains(&with_tag(&reference)) && reference.digest().is_none()
        })
    }

    fn remove_name(
        &self,
        text: &str,
        image: &Arc<Image>,
        options: RemoveOptions,
        users: Users<'_>,
        removed: &mut Vec<Removed>,
    ) -> Result<(), RemoveError> {
        if !options.force
            && is_single_reference(&image.references)
            && let Some(user) = users(&image.id).first()
        {
            return Err(RemoveError::ReferenceInUse {
                name: text.to_owned(),
                container: user.short(),
                image: image.id.short().to_owned(),
            });
        }
        let reference = Reference::parse_name(text).map_err(super::ResolveError::from)?;
        let mut names = vec![match reference.digest() {
            Some(digest) => reference.with_digest(digest.clone()),
            None => with_tag(&reference),
        }];
        // With the last tag of a repository, the names by digest in it go too.
        if reference.digest().is_none() {
            let same = |name: &&Reference| name.repository() == reference.repository() && **name != names[0];
            let others: Vec<Reference> = image.references.iter().filter(same).cloned().collect();
            if others.iter().all(|name| name.digest().is_some()) {
                names.extend(others);
            }
        }
        self.untag_these(names, removed)
    }

    fn untag_all(&self, image: &Image, removed: &mut Vec<Removed>) -> Result<(), RemoveError> {
        self.untag_these(image.references.clone(), removed)
    }

    fn untag_these(&self, names: Vec<Reference>, removed: &mut Vec<Removed>) -> Result<(), RemoveError> {
        let mut batch = Batch::new();
        for name in &names {
            self.names.remove_in(&mut batch, &name.to_string());
        }
        self.database.commit(batch)?;
        let mut index = self.index.write().expect(POISONED);
        for name in names {
            if index.names.contains_key(&name) {
                index.forget(&name);
                removed.push(Removed::Untagged(name.familiar()));
            }
        }
        Ok(())
    }

    fn conflict(&self, image: &Image, users: Users<'_>, checks: Checks) -> Option<DeleteConflict> {
        let index = self.index.read().expect(POISONED);
        let needs =
            |other: &Arc<Image>| other.parent.as_ref() == Some(&image.id) || image.is_member_of(other);
        if index.images.values().any(needs) {
            return Some(DeleteConflict::Children);
        }
        drop(index);
        let users = users(&image.id);
        if let Some(user) = users.iter().find(|user| user.running) {
            return Some(DeleteConflict::Running(user.short()));
        }
        if checks.references && self.get(&image.id).is_some_and(|image| !image.references.is_empty()) {
            return Some(DeleteConflict::Referenced);
        }
        let stopped = users.first().filter(|_| checks.stopped);
        stopped.map(|user| DeleteConflict::Stopped(user.short()))
    }

    /// Deletes an image, those that it stood for and, unless told otherwise, parents that then have neither name nor use.
    /// Gives the layers that may be free now. With `quiet`, an image in use simply stays.
    fn delete(
        &self,
        id: &Digest,
        options: RemoveOptions,
        quiet: bool,
        users: Users<'_>,
        removed: &mut Vec<Removed>,
    ) -> Result<Vec<Digest>, RemoveError> {
        let Some(image) = self.get(id) else { return Ok(Vec::new()) };
        let checks = Checks { references: !options.force, stopped: !options.force };
        let conflict = self.conflict(&image, users, checks);
        if let Some(conflict) = conflict {
            let in_use = matches!(conflict, DeleteConflict::Running(_) | DeleteConflict::Stopped(_));
            if quiet && (!image.references.is_empty() || in_use || conflict == DeleteConflict::Children) {
                return Ok(Vec::new());
            }
            return Err(RemoveError::Delete { image: id.short().to_owned(), conflict });
        }
        self.untag_all(&image, removed)?;
        self.images.remove(&id.to_string())?;
        self.index.write().expect(POISONED).images.remove(id);
        self.collector.forget_image(id);
        removed.push(Removed::Deleted(id.clone()));
        let mut layers = image.diff_ids();
        if let (Some(parent), false) = (&image.parent, options.no_prune) {
            let unnamed = self.get(parent).is_some_and(|parent| parent.references.is_empty());
            if unnamed {
                layers.extend(self.delete(parent, RemoveOptions::default(), true, users, removed)?);
            }
        }
        for member in image.group.iter().filter(|member| *member != id) {
            if self.get(member).is_some_and(|member| member.references.is_empty()) {
                layers.extend(self.delete(member, RemoveOptions::default(), true, users, removed)?);
            }
        }
        self.discard_documents(&image);
        Ok(layers)
    }

    /// The config and manifest are small; one that cannot be removed now goes with a collection.
    fn discard_documents(&self, image: &Image) {
        let manifest = image.manifest.as_ref().map(|manifest| &manifest.digest);
        for digest in std::iter::once(&image.id).chain(manifest) {
            if let Err(error) = self.layers.blobs().discard(digest) {
                tracing::warn!(error = &error as &dyn std::error::Error, "blob is left behind");
            }
        }
    }

    fn collect(&self, candidates: Vec<Digest>, removed: &mut Vec<Removed>) -> Result<(), RemoveError> {
        let chain = chain_ids(&candidates);
        let gone = self.collector.collect(&self.layers, &candidates)?;
        for (diff_id, chain_id) in candidates.iter().zip(chain).rev() {
            if gone.contains(diff_id) {
                removed.push(Removed::DeletedLayer(chain_id));
            }
        }
        Ok(())
    }
}

/// All names lie in one repository and at most one is a tag. False for none.
fn is_single_reference(references: &[Reference]) -> bool {
    let Some(first) = references.first() else { return false };
    let tags = references.iter().filter(|reference| reference.digest().is_none()).count();
    tags <= 1 && references.iter().all(|reference| reference.repository() == first.repository())
}
