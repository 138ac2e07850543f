//! Images of one name for several platforms: each is an image of its own, and one of them, which has the names, knows
//! the others. What is given away under its name is an index of them all.

use std::sync::Arc;

use ferry_oci::{Digest, Platform};

use super::Image;
use super::error::TagError;
use super::index::{Images, POISONED};
use crate::database::Batch;

impl Images {
    /// The images of a name in the order of their index: those of its group that are still there, else the image alone.
    pub fn members(&self, image: &Arc<Image>) -> Vec<Arc<Image>> {
        let known: Vec<Arc<Image>> = image.group.iter().filter_map(|id| self.get(id)).collect();
        if known.is_empty() { vec![Arc::clone(image)] } else { known }
    }

    /// The image among those of a name that is for a platform.
    pub fn member_for(&self, image: &Arc<Image>, wanted: &Platform) -> Option<Arc<Image>> {
        if image.config.platform().satisfies(wanted) {
            return Some(Arc::clone(image));
        }
        self.members(image).into_iter().find(|member| member.config.platform().satisfies(wanted))
    }

    /// Lets an image stand for these, itself among them, in this order; for itself alone where there are none.
    /// Durable.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub fn group(&self, id: &Digest, members: Vec<Digest>) -> Result<(), TagError> {
        let _changing = self.changing.lock().expect(POISONED);
        let image = self.get(id).ok_or_else(|| TagError::NotFound(id.clone()))?;
        if let Some(missing) = members.iter().find(|member| self.get(member).is_none()) {
            return Err(TagError::NotFound(missing.clone()));
        }
        if *image.group == members[..] {
            return Ok(());
        }
        let mut record = image.record();
        record.group.clone_from(&members);
        let mut batch = Batch::new();
        self.images.put_in(&mut batch, &id.to_string(), &record)?;
        self.database.commit(batch)?;
        self.index.write().expect(POISONED).change(id, |image| image.group = members.into());
        Ok(())
    }
}

impl Image {
    /// Whether another image stands for this one too.
    pub fn is_member_of(&self, other: &Image) -> bool {
        other.id != self.id && other.group.contains(&self.id)
    }
}
