//! The image configuration of a result: layers, history and dates filled in.

use std::collections::HashMap;

use ferry_oci::Digest;
use ferry_oci::image::{ImageConfig, RootFs};

use crate::llb::VertexId;
use crate::lower::HistoryDraft;
use crate::solve::Tree;

/// The date of images that have no layer of their own on a base without a date.
const NO_DATE: &str = "1970-01-01T00:00:00Z";

/// Completes a configuration. Dates come from the layers, so that a build that finds everything in
/// the cache gives the very same image: lines without a layer have the date of the layer before.
pub fn assemble(
    config: &ImageConfig,
    history: &[HistoryDraft],
    result: Option<VertexId>,
    trees: &HashMap<VertexId, Tree>,
    epoch: Option<i64>,
) -> ImageConfig {
    let mut image = config.clone();
    let fixed = epoch.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok()).map(|time| time.to_string());
    let mut date = fixed.clone().or_else(|| config.created.clone()).unwrap_or_else(|| NO_DATE.to_owned());
    for draft in history {
        let tree = draft.vertex.and_then(|vertex| trees.get(&vertex));
        if let (None, Some(tree)) = (&fixed, tree)
            && !tree.created.is_empty()
        {
            date.clone_from(&tree.created);
        }
        let has_layer = tree.is_some_and(|tree| tree.added.is_some());
        image.history.push(draft.finish(&date, has_layer));
    }
    let layers: Vec<Digest> =
        result.and_then(|vertex| trees.get(&vertex)).map(|tree| tree.layers.clone()).unwrap_or_default();
    image.rootfs = RootFs { diff_ids: layers, ..RootFs::default() };
    image.created = Some(date);
    image
}
