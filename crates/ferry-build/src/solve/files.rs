//! File operations: COPY, ADD, WORKDIR and inline files become layers.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ferry_oci::Digest;
use ferry_store::{LayerRecord, Snapshot, Store};

use super::error::SolveError;
use super::inputs::Folder;
use super::overlay;
use super::time::StepTime;
use crate::fileop::{
    self, Accounts, CopySettings, FileHashes, ModeChange, Owner, Reuse, Selection, TouchedDirectories,
    copy_selection, make_directory, make_file,
};
use crate::llb::ops::{Action, ChownOpt, FileAction, FileActionCopy};

/// Where a copy takes from.
pub enum CopySource {
    /// A context folder, with what was selected when the key was made.
    Folder(Arc<Folder>, Selection),
    /// A tree of layers, lowest first.
    Layers(Vec<Digest>),
    /// Nothing.
    Empty,
}

/// A file operation with everything it needs.
pub struct FileStep {
    /// Layers of the base, lowest first.
    pub base: Vec<Digest>,
    /// The actions, each with its source when it is a copy.
    pub actions: Vec<(FileAction, Option<CopySource>)>,
    /// What time its files get.
    pub time: StepTime,
    /// The layer that the same step made last, with other contents.
    pub previous: Option<Arc<LayerRecord>>,
    /// Digests of files.
    pub hashes: Arc<FileHashes>,
}

/// A snapshot that is removed unless it became a layer.
pub struct StepSnapshot {
    store: Arc<Store>,
    id: String,
    /// The directories.
    pub snapshot: Snapshot,
}

impl StepSnapshot {
    /// Makes a writable layer over layers.
    pub fn prepare(store: &Arc<Store>, layers: &[Digest]) -> Result<Self, SolveError> {
        let id = ferry_store::random_id();
        let snapshot = store.snapshots().prepare(&id, layers)?;
        Ok(Self { store: Arc::clone(store), id, snapshot })
    }

    /// The snapshot's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes a layer of what was written; `None` when nothing was.
    pub fn commit(self) -> Result<Option<Arc<LayerRecord>>, SolveError> {
        if is_empty(&self.snapshot.upper)? {
            return Ok(None);
        }
        let layer = self.store.take_upper(&self.snapshot.upper)?;
        Ok(Some(layer))
    }
}

impl Drop for StepSnapshot {
    fn drop(&mut self) {
        let removed = self.store.snapshots().remove(&self.id);
        if let Err(error) = removed {
            tracing::warn!(
                id = self.id,
                error = &error as &dyn std::error::Error,
                "snapshot of a build step stays"
            );
        }
        if let Err(error) = self.store.containers().remove(&self.id) {
            tracing::warn!(
                id = self.id,
                error = &error as &dyn std::error::Error,
                "directory of a build step stays"
            );
        }
    }
}

fn is_empty(directory: &Path) -> Result<bool, SolveError> {
    let mut entries = std::fs::read_dir(directory).map_err(fileop::FileError::io("read", directory))?;
    Ok(entries.next().is_none())
}

impl FileStep {
    /// Runs the actions and makes the layer.
    pub fn run(
        self,
        store: &Arc<Store>,
        canceled: &AtomicBool,
    ) -> Result<Option<Arc<LayerRecord>>, SolveError> {
        let step = StepSnapshot::prepare(store, &self.base)?;
        let root = overlay::writable(&step.snapshot)?;
        let mut touched = TouchedDirectories::default();
        let epoch = match self.time {
            StepTime::Fixed(epoch) => Some(epoch),
            StepTime::Inputs { .. } => None,
        };
        // Links are made at the end, so that they must not come between several actions.
        let reuse = match self.actions.as_slice() {
            [(action, Some(CopySource::Folder(..)))] if takes_files(action) => {
                Some(reuse_of(store, self.previous.as_deref(), &self.hashes)?)
            }
            _ => None,
        };
        for (action, source) in self.actions {
            let mut work = FileWork {
                store,
                root: root.as_fd(),
                touched: &mut touched,
                epoch,
                canceled,
                reuse: reuse.as_ref(),
            };
            work.apply(&action, source)?;
        }
        touched.restore(root.as_fd())?;
        drop(root);
        if let Some(reuse) = reuse {
            reuse.into_inner().finish(&step.snapshot.upper)?;
        }
        // Folders made on the way have the time of this minute.
        self.time.settle(&step.snapshot.upper)?;
        step.commit()
    }
}

struct FileWork<'a> {
    store: &'a Arc<Store>,
    root: std::os::fd::BorrowedFd<'a>,
    touched: &'a mut TouchedDirectories,
    epoch: Option<i64>,
    canceled: &'a AtomicBool,
    reuse: Option<&'a RefCell<Reuse>>,
}

impl FileWork<'_> {
    fn apply(&mut self, action: &FileAction, source: Option<CopySource>) -> Result<(), SolveError> {
        match &action.action {
            Some(Action::Copy(copy)) => self.copy(copy, source.unwrap_or(CopySource::Empty)),
            Some(Action::Mkdir(directory)) => {
                let owner = self.owner(directory.owner.as_ref())?.unwrap_or_default();
                let mode = Some(bits(directory.mode));
                make_directory(self.root, Path::new(&directory.path), mode, owner, self.touched)?;
                Ok(())
            }
            Some(Action::Mkfile(file)) => {
                let owner = self.owner(file.owner.as_ref())?.unwrap_or_default();
                make_file(
                    self.root,
                    Path::new(&file.path),
                    &file.data,
                    bits(file.mode),
                    owner,
                    self.touched,
                )?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn owner(&self, owner: Option<&ChownOpt>) -> Result<Option<Owner>, SolveError> {
        Ok(owner.map(|owner| Accounts::new(self.root).resolve(owner)).transpose()?)
    }

    fn copy(&mut self, copy: &FileActionCopy, source: CopySource) -> Result<(), SolveError> {
        let mode = match (copy.mode_text.as_str(), copy.mode) {
            ("", -1) => None,
            ("", mode) => Some(ModeChange::Octal(bits(mode))),
            (text, _) => Some(ModeChange::parse(text)?),
        };
        let settings = CopySettings {
            owner: self.owner(copy.owner.as_ref())?,
            mode,
            replace: copy.always_replace,
            unpack: copy.attempt_unpack,
            epoch: self.epoch,
            canceled: self.canceled,
            reuse: self.reuse,
        };
        match source {
            CopySource::Folder(folder, selection) => {
                copy_selection(&folder.tree, &selection, self.root, &copy.dest, &settings, self.touched)?;
            }
            CopySource::Layers(layers) => {
                let tree = stage_tree(self.store, &layers)?;
                let selection = fileop::select(&tree, copy)?;
                if selection.roots.is_empty() && copy.exclude_patterns.is_empty() {
                    return Err(fileop::FileError::NothingMatches(copy.src.clone()).into());
                }
                copy_selection(&tree, &selection, self.root, &copy.dest, &settings, self.touched)?;
            }
            CopySource::Empty => return Err(fileop::FileError::NothingMatches(copy.src.clone()).into()),
        }
        Ok(())
    }
}

/// A copy of files as they are; an archive gives others.
fn takes_files(action: &FileAction) -> bool {
    matches!(&action.action, Some(Action::Copy(copy)) if !copy.attempt_unpack)
}

fn reuse_of(
    store: &Store,
    layer: Option<&LayerRecord>,
    hashes: &Arc<FileHashes>,
) -> Result<RefCell<Reuse>, fileop::FileError> {
    let path = layer.map(|layer| store.layers().tree(&layer.diff_id));
    Reuse::open(path.as_deref(), Arc::clone(hashes)).map(RefCell::new)
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0) & 0o7777
}

/// The files of layers, lowest first.
pub fn stage_tree(store: &Arc<Store>, layers: &[Digest]) -> Result<fileop::Tree, SolveError> {
    Ok(fileop::Tree::stage(overlay::view(&store.snapshots().lowers(layers)?)?))
}

/// The digest of what a copy takes from a stage.
pub fn stage_selection_key(
    store: &Arc<Store>,
    layers: &[Digest],
    copy: &FileActionCopy,
    hashes: &FileHashes,
) -> Result<fileop::ContentKey, SolveError> {
    let tree = stage_tree(store, layers)?;
    let selection = fileop::select(&tree, copy)?;
    Ok(fileop::selection_key(&tree, &selection, hashes)?)
}
