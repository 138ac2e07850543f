//! The paths under a data root, and its version. No other module joins paths to the data root.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ferry_oci::{Algorithm, Digest};

use crate::error::{IoError, OpenError};
use crate::files;

/// Version of everything on disk. A higher one is refused.
pub const DISK_FORMAT_VERSION: u32 = 1;

/// Paths of one data root and the background emptying of its trash.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    sweeper: mpsc::Sender<()>,
}

impl Layout {
    /// Makes the directories that are missing and starts the thread that empties the trash.
    pub fn prepare(root: &Path) -> Result<Layout, OpenError> {
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent).map_err(IoError::new("create directory", parent))?;
        }
        files::ensure_dir(root, 0o711)?;
        let root = fs::canonicalize(root).map_err(IoError::new("resolve", root))?;
        check_version(&root)?;
        for (name, mode) in DIRECTORIES {
            files::ensure_dir(&root.join(name), *mode)?;
        }
        for name in UNRELATED {
            files::spread_below(&root.join(name));
        }
        make_base_files(&root.join("layers/base"))?;
        let sweeper = start_sweeper(root.join("trash"));
        Ok(Layout { root, sweeper })
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The metadata database.
    pub fn database(&self) -> PathBuf {
        self.root.join("db.redb")
    }

    /// The key of sealed values.
    pub fn vault_key(&self) -> PathBuf {
        self.root.join("vault.key")
    }

    /// A blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// All blobs of one algorithm.
    pub fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    /// All layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers/sha256")
    }

    /// A layer's directory, holding `fs/` and `meta.json`.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.algorithm().as_str()).join(diff_id.hex())
    }

    /// A layer's unpacked tree.
    pub fn layer_tree(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("fs")
    }

    /// The layer below every container's lowest: what a runtime mounts over (see [`BASE_FILES`]).
    pub fn base_layer(&self) -> PathBuf {
        self.root.join("layers/base")
    }

    /// All container directories.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// All cache mounts of builds.
    pub fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    /// Digests of build context files.
    pub fn context_index(&self) -> PathBuf {
        self.root.join("context.hashes")
    }

    /// A fresh path for a write under way.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest").join(files::unique_name())
    }

    /// What came of a blob before its transfer broke off.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.partial_dir().join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    /// Directory of blobs that came in part.
    pub fn partial_dir(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Directory of writes under way.
    pub fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Directory for scratch, emptied at every start.
    pub fn scratch_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Directory of deletions under way.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Moves something out of sight at once; it is removed in the background, or now where the disk is full: what
    /// comes next needs the room. Idempotent.
    pub fn discard(&self, path: &Path) -> Result<bool, IoError> {
        let found = files::move_to_trash(path, &self.trash())?;
        if found && self.is_full() {
            files::empty_dir(&self.trash())?;
        } else if found {
            // The thread lives as long as this sender; if it is gone, the next start empties.
            let _ = self.sweeper.send(());
        }
        Ok(found)
    }

    fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.root)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BELOW)
    }

    /// What an interrupted process left: unfinished writes, deletions, scratch.
    pub fn sweep(&self) -> Result<(), IoError> {
        for directory in [self.ingest_dir(), self.scratch_dir()] {
            for name in files::list_dir(&directory)? {
                files::move_to_trash(&directory.join(name), &self.trash())?;
            }
        }
        let _ = self.sweeper.send(());
        Ok(())
    }
}

/// Directories of a data root. Container ids, layer trees and blobs are nobody's business but
/// root's; volumes must be traversable for bind mounts made by path.
const DIRECTORIES: &[(&str, u32)] = &[
    ("blobs", 0o700),
    ("blobs/sha256", 0o700),
    ("blobs/sha512", 0o700),
    ("layers", 0o700),
    ("layers/sha256", 0o700),
    ("layers/sha512", 0o700),
    ("layers/base", 0o755),
    ("layers/base/dev", 0o755),
    ("layers/base/etc", 0o755),
    ("layers/base/proc", 0o755),
    ("layers/base/sys", 0o755),
    ("containers", 0o710),
    ("volumes", 0o711),
    ("caches", 0o711),
    ("ingest", 0o700),
    ("partial", 0o700),
    ("trash", 0o700),
    ("tmp", 0o700),
];

/// Directories whose entries are trees that have nothing to do with each other.
const UNRELATED: &[&str] =
    &["layers/sha256", "layers/sha512", "containers", "volumes", "caches", "ingest", "tmp"];

/// Files of the base layer. Containers need them as mount points; below all layers of the image
/// they are there without being the container's changes, so neither `diff` nor a commit shows them,
/// and what the image itself has wins. `.dockerenv` is how programs tell that they are in a container.
const BASE_FILES: &[(&str, u32)] =
    &[(".dockerenv", 0o755), ("etc/hostname", 0o644), ("etc/hosts", 0o644), ("etc/resolv.conf", 0o644)];

fn make_base_files(base: &Path) -> Result<(), IoError> {
    for (name, mode) in BASE_FILES {
        let path = base.join(name);
        if !path.exists() {
            files::write_atomic(&path, b"", *mode, false)?;
        }
    }
    match std::os::unix::fs::symlink("/proc/mounts", base.join("etc/mtab")) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(IoError::new("create link in", base)(error))
        }
        _ => Ok(()),
    }
}

/// What may be in a data root before its VERSION file is written.
const BEFORE_VERSION: &[&str] = &["lock", "lost+found"];

fn check_version(root: &Path) -> Result<(), OpenError> {
    let path = root.join("VERSION");
    match files::read_limited(&path, 64) {
        Ok(bytes) => {
            let found = String::from_utf8_lossy(&bytes).trim().to_owned();
            if found == DISK_FORMAT_VERSION.to_string() {
                return Ok(());
            }
            Err(OpenError::Version { data_root: root.to_owned(), found, expected: DISK_FORMAT_VERSION })
        }
        Err(error) if error.is_not_found() => {
            let mut names = files::list_dir(root)?.into_iter();
            let is_ours =
                |name: &String| BEFORE_VERSION.contains(&name.as_str()) || name.starts_with("VERSION.");
            if let Some(found) = names.find(|name| !is_ours(name)) {
                return Err(OpenError::Foreign { data_root: root.to_owned(), found });
            }
            files::write_atomic(&path, format!("{DISK_FORMAT_VERSION}\n").as_bytes(), 0o644, true)?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes available below which a disk counts as full.
const FULL_BELOW: u64 = 16 << 20;

/// Pause before the trash is emptied.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Empties the trash whenever told, until the sender is dropped.
fn start_sweeper(trash: PathBuf) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        while receiver.recv().is_ok() {
            // Whoever threw something away goes on with something else now, and needs processor and disk more.
            thread::sleep(SWEEP_PAUSE);
            while receiver.try_recv().is_ok() {}
            if let Err(error) = files::empty_dir(&trash) {
                tracing::warn!(error = &error as &dyn std::error::Error, "trash is not empty");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ferry-trash".into()).stack_size(256 << 10).spawn(work) {
        tracing::warn!(%error, "no thread for emptying the trash; it waits for the next start");
    }
    sender
}
