//! An image's history, as `docker history` tells it.

use ferry_oci::Digest;

use super::index::Images;
use super::{Image, seconds_of};

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Image id for the newest line, None (`<missing>`) for the others.
    pub id: Option<Digest>,
    /// When, in seconds since 1970.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// Tags of the image, on the newest line.
    pub tags: Vec<String>,
    /// Size of the layer made, 0 for none.
    pub size: u64,
    /// A remark.
    pub comment: String,
}

impl Images {
    /// The history, newest first. Layers that the config says nothing about are told all the same.
    pub fn history(&self, image: &Image) -> Vec<HistoryEntry> {
        let mut layers = image.layers.iter();
        let mut entries: Vec<HistoryEntry> = image
            .config
            .history
            .iter()
            .map(|step| {
                let layer = if step.empty_layer { None } else { layers.next() };
                HistoryEntry {
                    id: None,
                    created: step.created.as_deref().map_or(0, seconds_of),
                    created_by: step.created_by.clone().unwrap_or_default(),
                    tags: Vec::new(),
                    size: layer.map_or(0, |layer| layer.size),
                    comment: step.comment.clone().unwrap_or_default(),
                }
            })
            .collect();
        entries.extend(layers.map(|layer| HistoryEntry {
            id: None,
            created: image.created_seconds(),
            created_by: String::new(),
            tags: Vec::new(),
            size: layer.size,
            comment: String::new(),
        }));
        entries.reverse();
        if let Some(newest) = entries.first_mut() {
            newest.id = Some(image.id.clone());
            newest.tags = image.repo_tags.clone();
        }
        entries
    }
}
