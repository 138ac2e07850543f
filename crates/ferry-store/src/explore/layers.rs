//! What each layer brings, and what of it no container ever sees.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rustix::fs::{FileType, Stat};
use serde::Serialize;

use super::ExploreError;
use super::union::{Meeting, Union};
use crate::image::Image;
use crate::layer::is_whiteout;
use crate::store::Store;

/// What one layer does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerSummary {
    /// Its uncompressed digest.
    pub diff_id: String,
    /// The command that made it, from the image's history.
    pub created_by: String,
    /// Bytes of its files.
    pub size: u64,
    /// Files that were not there before.
    pub added: u64,
    /// Files that it replaces.
    pub changed: u64,
    /// Names that it removes.
    pub removed: u64,
    /// Bytes of its files that a layer above hides.
    pub wasted: u64,
}

/// A path that several layers have written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WastedPath {
    /// Bytes that nobody sees.
    pub wasted: u64,
    /// In how many layers.
    pub layers: usize,
    /// The path.
    pub path: String,
}

/// A file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileFound {
    /// The path.
    pub path: String,
    /// `d`, `l`, `f` or another letter as of `find -type`.
    pub kind: char,
    /// Permissions.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Number of the layer it comes from, 0 for the lowest.
    pub layer: usize,
}

/// An image as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explored {
    /// The layers, lowest first.
    pub layers: Vec<LayerSummary>,
    /// Bytes of all layers' files.
    pub size: u64,
    /// Bytes that no container sees.
    pub wasted: u64,
    /// Where most is wasted, largest first.
    pub wasted_paths: Vec<WastedPath>,
}

impl Store {
    /// Looks through all layers of an image; tells `listener` each file that a container sees. At most `most` wasted
    /// paths are named.
    pub fn explore(
        &self,
        image: &Image,
        most: usize,
        mut listener: impl FnMut(FileFound) -> std::io::Result<()>,
    ) -> Result<Explored, ExploreError> {
        let mut union = Union::of(self, image)?;
        let mut counting = Counting::new(image, most);
        while let Some(meeting) = union.next()? {
            counting.take(&meeting);
            if let Some((layer, stat)) = meeting.visible() {
                let found = FileFound {
                    path: format!("/{}", String::from_utf8_lossy(&meeting.path)),
                    kind: letter(stat),
                    mode: stat.st_mode & 0o7777,
                    size: size_of(stat),
                    layer: *layer,
                };
                listener(found).map_err(ExploreError::Listener)?;
            }
        }
        Ok(counting.finish())
    }
}

struct Counting {
    explored: Explored,
    /// The largest so far, smallest on top.
    heap: BinaryHeap<Reverse<WastedPath>>,
    most: usize,
    /// Files with several names, by layer and inode: their bytes count once.
    linked: HashSet<(usize, u64)>,
}

impl Counting {
    fn new(image: &Image, most: usize) -> Counting {
        let steps = image.config.history.iter().filter(|entry| !entry.empty_layer);
        let mut commands = steps.map(|entry| entry.created_by.clone().unwrap_or_default());
        let layer = |diff_id: ferry_oci::Digest| LayerSummary {
            diff_id: diff_id.to_string(),
            created_by: commands.next().unwrap_or_default(),
            ..LayerSummary::default()
        };
        let layers = image.diff_ids().into_iter().map(layer).collect();
        let explored = Explored { layers, ..Explored::default() };
        Counting { explored, heap: BinaryHeap::new(), most, linked: HashSet::new() }
    }

    fn take(&mut self, meeting: &Meeting) {
        let (mut wasted, mut seen_below) = (0, false);
        let last = meeting.entries.len() - 1;
        for (at, (layer, stat)) in meeting.entries.iter().enumerate() {
            let hidden = at < last || *layer < meeting.cover;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let first_name = stat.st_nlink < 2 || is_directory || self.linked.insert((*layer, stat.st_ino));
            let size = if first_name { size_of(stat) } else { 0 };
            let summary = &mut self.explored.layers[*layer];
            match (is_whiteout(stat), is_directory, seen_below && *layer >= meeting.cover) {
                (true, _, _) => summary.removed += 1,
                (_, true, _) => {}
                (_, _, true) => summary.changed += 1,
                (_, _, false) => summary.added += 1,
            }
            summary.size += size;
            if hidden {
                summary.wasted += size;
                wasted += size;
            }
            self.explored.size += size;
            seen_below = !is_whiteout(stat) && *layer >= meeting.cover;
        }
        self.explored.wasted += wasted;
        if wasted > 0 {
            self.name(WastedPath {
                wasted,
                layers: meeting.entries.len(),
                path: format!("/{}", String::from_utf8_lossy(&meeting.path)),
            });
        }
    }

    fn name(&mut self, path: WastedPath) {
        self.heap.push(Reverse(path));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    fn finish(mut self) -> Explored {
        let mut paths: Vec<WastedPath> = self.heap.into_iter().map(|Reverse(path)| path).collect();
        paths.sort_by(|a, b| b.wasted.cmp(&a.wasted).then_with(|| a.path.cmp(&b.path)));
        self.explored.wasted_paths = paths;
        self.explored
    }
}

/// Bytes of a file; everything else has none.
fn size_of(stat: &Stat) -> u64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    }
}

fn letter(stat: &Stat) -> char {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::RegularFile => 'f',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::Unknown => '?',
    }
}
