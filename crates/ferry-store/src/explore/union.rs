//! Several layers walked side by side.

use std::cmp::Ordering;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::ExploreError;
use crate::error::IoError;
use crate::image::Image;
use crate::layer::{LayerError, LayerRecord, is_whiteout, overlay_opaque};
use crate::store::Store;
use crate::walk::{Node, Root, Walk};

/// A path with what each layer has there.
pub struct Meeting {
    /// Path below the root.
    pub path: Vec<u8>,
    /// Layers that have it, lowest first.
    pub entries: Vec<(usize, Stat)>,
    /// Layers below this one are hidden here by something above the path.
    pub cover: usize,
}

impl Meeting {
    /// What a container sees there.
    pub fn visible(&self) -> Option<&(usize, Stat)> {
        self.entries.last().filter(|(layer, stat)| *layer >= self.cover && !is_whiteout(stat))
    }
}

/// Walks all layers of an image in one order: a directory before what it holds, names in byte order.
pub struct Union {
    walks: Vec<Walk>,
    heads: Vec<Option<Node>>,
    /// For each directory on the way to the current path: below which layer everything is hidden.
    covers: Vec<(Vec<u8>, usize)>,
    /// Kept so that no layer goes while it is walked.
    _records: Vec<Arc<LayerRecord>>,
}

impl Union {
    /// The layers of an image.
    pub fn of(store: &Store, image: &Image) -> Result<Union, ExploreError> {
        let (mut walks, mut records) = (Vec::new(), Vec::new());
        for diff_id in image.diff_ids() {
            records.push(store.layer(&diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?);
            walks.push(Walk::new(Root::open(&store.layers().tree(&diff_id))?)?);
        }
        let heads = walks.iter_mut().map(Walk::next).collect::<Result<_, _>>()?;
        Ok(Union { walks, heads, covers: Vec::new(), _records: records })
    }

    /// The next path.
    pub fn next(&mut self) -> Result<Option<Meeting>, ExploreError> {
        let paths = self.heads.iter().flatten().map(|node| node.path.as_slice());
        let Some(path) = paths.min_by(|a, b| in_walking_order(a, b)).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        for (layer, head) in self.heads.iter_mut().enumerate() {
            if head.as_ref().is_some_and(|node| node.path == path) {
                let next = self.walks[layer].next()?;
                entries.extend(std::mem::replace(head, next).map(|node| (layer, node.stat)));
            }
        }
        while self.covers.last().is_some_and(|(above, _)| !is_below(above, &path)) {
            self.covers.pop();
        }
        let cover = self.covers.last().map_or(0, |(_, cover)| *cover);
        let own = self.own_cover(&path, &entries)?;
        self.covers.push((path.clone(), cover.max(own)));
        Ok(Some(Meeting { path, entries, cover }))
    }

    /// Below which layer the entries at this path hide what lies under it.
    fn own_cover(&self, path: &[u8], entries: &[(usize, Stat)]) -> Result<usize, ExploreError> {
        for (layer, stat) in entries.iter().skip(1).rev() {
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_directory || self.is_opaque(*layer, path)? {
                return Ok(*layer);
            }
        }
        Ok(0)
    }

    fn is_opaque(&self, layer: usize, path: &[u8]) -> Result<bool, IoError> {
        let directory = self.walks[layer].open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut value = [0; 4];
        match rustix::fs::fgetxattr(&directory, overlay_opaque(), &mut value[..]) {
            Ok(count) => Ok(count == 1 && value[0] == b'y'),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.walks[layer].failed("read attribute of", path)(errno)),
        }
    }

    /// The walk of a layer, to open what it has.
    pub fn walk(&self, layer: usize) -> &Walk {
        &self.walks[layer]
    }
}

/// The order in which a walk gives paths: by components, not by bytes.
pub fn in_walking_order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

fn is_below(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        let mut paths: Vec<&[u8]> = vec![b"a.b", b"a/z", b"a", b"a/b/c", b"b", b"a/b"];
        paths.sort_by(|a, b| in_walking_order(a, b));
        let expected: Vec<&[u8]> = vec![b"a", b"a/b", b"a/b/c", b"a/z", b"a.b", b"b"];
        assert_eq!(paths, expected);
        assert!(is_below(b"a", b"a/b") && !is_below(b"a", b"ab") && !is_below(b"a", b"a"));
    }
}
