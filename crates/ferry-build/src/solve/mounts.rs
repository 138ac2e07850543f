//! The mounts of a command, made ready: directories for binds and caches, bytes for secrets.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use ferry_oci::Digest;
use ferry_store::{Scratch, Store};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::error::SolveError;
use super::executor::{MountKind, StepMount};
use super::files::StepSnapshot;
use super::inputs::{BuildInputs, Folder};
use super::overlay::{self, Attached};
use crate::fileop::{CopySettings, FileError, Selection, TouchedDirectories, copy_selection};
use crate::llb::ops::{CacheOpt, CacheSharing, Mount, MountType};

/// What a bind mount shows.
pub enum MountSource {
    /// A context folder, with what was selected when the key was made.
    Folder(Arc<Folder>, Selection),
    /// A tree of layers.
    Layers(Vec<Digest>),
    /// Nothing.
    Empty,
}

/// The locks of cache mounts that only one command may use at a time.
#[derive(Debug, Default)]
pub struct CacheLocks {
    locks: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl CacheLocks {
    /// The lock of a cache.
    pub fn get(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}

/// Mounts made ready, and what must live as long as the command. Fields are dropped in this order:
/// mounts go before the directories they are attached to.
#[derive(Default)]
pub struct ReadyMounts {
    /// For the executor.
    pub mounts: Vec<StepMount>,
    attached: Vec<Attached>,
    snapshots: Vec<StepSnapshot>,
    scratches: Vec<Scratch>,
    /// Locked caches, free again when the command is over.
    _guards: Vec<OwnedMutexGuard<()>>,
}

/// The name of a cache mount's directory.
pub fn cache_name(id: &str) -> String {
    blake3::hash(id.as_bytes()).to_hex().to_string()
}

impl ReadyMounts {
    /// No mounts yet, but caches locked for the command.
    pub fn with_locks(guards: Vec<OwnedMutexGuard<()>>) -> Self {
        Self { _guards: guards, ..Self::default() }
    }

    /// Makes one mount ready.
    pub fn add(
        &mut self,
        store: &Arc<Store>,
        mount: &Mount,
        source: MountSource,
        inputs: &BuildInputs,
        canceled: &AtomicBool,
    ) -> Result<(), SolveError> {
        let kind = match MountType::try_from(mount.mount_type).unwrap_or(MountType::Bind) {
            MountType::Bind => Some(self.bind(store, mount, source, canceled)?),
            MountType::Cache => Some(self.cache(store, mount, &source, canceled)?),
            MountType::Tmpfs => {
                let size = mount.tmpfs.as_ref().map(|tmpfs| tmpfs.size).filter(|size| *size > 0);
                Some(MountKind::Tmpfs { size })
            }
            MountType::Secret => secret(mount, inputs)?,
            MountType::Ssh => agent(mount, inputs)?,
        };
        self.mounts.extend(kind.map(|kind| StepMount { target: mount.dest.clone(), kind }));
        Ok(())
    }

    fn bind(
        &mut self,
        store: &Arc<Store>,
        mount: &Mount,
        source: MountSource,
        canceled: &AtomicBool,
    ) -> Result<MountKind, SolveError> {
        match source {
            MountSource::Folder(folder, selection) => {
                self.folder(store, mount, &folder, &selection, canceled)
            }
            MountSource::Layers(layers) => self.layers(store, mount, &layers),
            MountSource::Empty => {
                let step = StepSnapshot::prepare(store, &[])?;
                let source = step.snapshot.upper.clone();
                self.snapshots.push(step);
                Ok(MountKind::Path { source, writable: !mount.readonly })
            }
        }
    }

    /// A copy of what the context holds: the host's own files are never mounted.
    fn folder(
        &mut self,
        store: &Arc<Store>,
        mount: &Mount,
        folder: &Folder,
        selection: &Selection,
        canceled: &AtomicBool,
    ) -> Result<MountKind, SolveError> {
        let step = StepSnapshot::prepare(store, &[])?;
        let root =
            std::fs::File::open(&step.snapshot.upper).map_err(FileError::io("open", &step.snapshot.upper))?;
        let settings = CopySettings {
            owner: None,
            mode: None,
            replace: false,
            unpack: false,
            epoch: None,
            canceled,
            reuse: None,
        };
        let is_file =
            selection.roots.first().is_some_and(|root| root.below.is_empty() && !root.name.is_empty());
        let destination = if is_file { "/source" } else { "/source/" };
        let mut touched = TouchedDirectories::default();
        copy_selection(&folder.tree, selection, root.as_fd(), destination, &settings, &mut touched)?;
        touched.restore(root.as_fd())?;
        let source = step.snapshot.upper.join("source");
        self.snapshots.push(step);
        Ok(MountKind::Path { source, writable: !mount.readonly })
    }

    /// A view of a stage; writes go to a layer that is thrown away.
    fn layers(
        &mut self,
        store: &Arc<Store>,
        mount: &Mount,
        layers: &[Digest],
    ) -> Result<MountKind, SolveError> {
        let scratch = store.scratch()?;
        let view = match mount.readonly {
            true => overlay::view(&store.snapshots().lowers(layers)?)?,
            false => {
                let step = StepSnapshot::prepare(store, layers)?;
                let view = overlay::writable(&step.snapshot)?;
                self.snapshots.push(step);
                view
            }
        };
        let tree = crate::fileop::Tree::stage(view);
        let selected = tree
            .resolve(Path::new(&mount.selector))
            .map_err(|errno| FileError::errno("find", Path::new(&mount.selector), errno))?;
        // A single layer is a plain directory; a clone of its mount can be attached as an overlay's can.
        let root = ferry_sys::mount::clone_descriptor(tree.root(), false)
            .map_err(|errno| SolveError::Mount { what: mount.dest.clone(), reason: errno.to_string() })?;
        let attached = Attached::new(root, scratch.path().to_owned())?;
        let source: PathBuf = attached.path().join(selected);
        self.attached.push(attached);
        self.scratches.push(scratch);
        Ok(MountKind::Path { source, writable: !mount.readonly })
    }

    /// A directory that stays; one that nothing is in yet begins with what a stage has at the place.
    fn cache(
        &mut self,
        store: &Arc<Store>,
        mount: &Mount,
        source: &MountSource,
        canceled: &AtomicBool,
    ) -> Result<MountKind, SolveError> {
        let options = mount.cache.clone().unwrap_or_default();
        // Held by another command: whoever wants one alone gets a new one.
        if options.sharing == CacheSharing::Private as i32 {
            let step = StepSnapshot::prepare(store, &[])?;
            let directory = step.snapshot.upper.clone();
            begin(store, &directory, &options, mount, source, canceled)?;
            self.snapshots.push(step);
            return Ok(MountKind::Path { source: directory, writable: true });
        }
        let directory = store.cache_directory(&directory_name(&options.id, mount, source))?;
        begin(store, &directory, &options, mount, source, canceled)?;
        Ok(MountKind::Path { source: directory, writable: !mount.readonly })
    }
}

/// A cache that begins with other things is another cache.
fn directory_name(id: &str, mount: &Mount, source: &MountSource) -> String {
    match source {
        MountSource::Layers(layers) => {
            let layers: Vec<String> = layers.iter().map(Digest::to_string).collect();
            cache_name(&format!("{id}\n{}\n{}", mount.selector, layers.join("\n")))
        }
        MountSource::Folder(..) => cache_name(&format!("{id}\n{}", mount.selector)),
        MountSource::Empty => cache_name(id),
    }
}

/// Gives a cache that nothing is in yet to whoever was named with it, and puts into it what it begins with.
fn begin(
    store: &Arc<Store>,
    directory: &Path,
    options: &CacheOpt,
    mount: &Mount,
    source: &MountSource,
    canceled: &AtomicBool,
) -> Result<(), SolveError> {
    if !hand_over(directory, options)? {
        return Ok(());
    }
    let root = std::fs::File::open(directory).map_err(FileError::io("open", directory))?;
    let mut touched = TouchedDirectories::default();
    let settings = CopySettings {
        owner: None,
        mode: None,
        replace: false,
        unpack: false,
        epoch: None,
        canceled,
        reuse: None,
    };
    match source {
        MountSource::Layers(layers) => {
            let tree = super::files::stage_tree(store, layers)?;
            let selection = crate::fileop::select(&tree, &super::key::whole(&mount.selector))?;
            copy_selection(&tree, &selection, root.as_fd(), "/", &settings, &mut touched)?;
        }
        MountSource::Folder(folder, selection) => {
            copy_selection(&folder.tree, selection, root.as_fd(), "/", &settings, &mut touched)?;
        }
        MountSource::Empty => {}
    }
    Ok(())
}

/// Gives a cache that nothing is in yet to whoever was named with it; false where there is something.
fn hand_over(directory: &Path, options: &CacheOpt) -> Result<bool, SolveError> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mut entries = std::fs::read_dir(directory).map_err(FileError::io("read", directory))?;
    if entries.next().is_some() {
        return Ok(false);
    }
    chown(directory, Some(options.uid), Some(options.gid))
        .map_err(FileError::io("set the owner of", directory))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(options.mode & 0o7777))
        .map_err(FileError::io("set the permissions of", directory))?;
    Ok(true)
}

fn secret(mount: &Mount, inputs: &BuildInputs) -> Result<Option<MountKind>, SolveError> {
    let options = mount.secret.clone().unwrap_or_default();
    match inputs.secrets.get(&options.id) {
        Some(secret) => Ok(Some(MountKind::Secret {
            data: Arc::clone(&secret.0),
            mode: options.mode,
            uid: options.uid,
            gid: options.gid,
        })),
        None if options.optional => Ok(None),
        None => Err(SolveError::NoSecret(options.id)),
    }
}

fn agent(mount: &Mount, inputs: &BuildInputs) -> Result<Option<MountKind>, SolveError> {
    let options = mount.ssh.clone().unwrap_or_default();
    match inputs.agents.get(&options.id) {
        Some(path) => Ok(Some(MountKind::Path { source: path.clone(), writable: true })),
        None if options.optional => Ok(None),
        None => Err(SolveError::NoAgent(options.id)),
    }
}
