//! Bytes at rest: blobs, layers, snapshots, images, volumes, metadata, garbage collection.
//!
//! Owns every path under the data root; nothing above this crate builds one. Never starts a
//! process, never mounts, never talks to a network. All calls are synchronous; look-ups of images
//! and layers are answered from memory.
//!
//! ```text
//! data root/
//!   VERSION                     disk format version
//!   lock                        held by the one owner
//!   db.redb                     metadata (see `database`)
//!   blobs/sha256/<hex>          verified blobs as they arrived
//!   layers/sha256/<hex>/fs/     unpacked layer, named by its diff id, whiteouts in overlay's form
//!   layers/sha256/<hex>/meta.json
//!   containers/<id>/            record, exit record, logs, upper/ and work/
//!   volumes/<name>/_data        a volume's data
//!   volumes/<name>/snapshots/<snapshot>/_data, meta.json
//!   vault.key                   key of secrets and configs, whose sealed values are in the database
//!   caches/<hash>/              cache mounts of builds
//!   ingest/ trash/ tmp/         unfinished writes, deletions under way, scratch
//! ```
//!
//! Rules: a write is invisible until it is whole and verified; a delete renames to `trash/` first;
//! cleaning up is idempotent and is done again by every [`Store::open`].
//!
//! What keeping blobs costs: a layer that came from outside is on disk twice, unpacked and as it
//! arrived (compressed, mostly), so that a push or save gives back the very bytes and digests that
//! came in. A layer made here is kept once: its tar is deterministic and is written again on demand.
//!
//! Start reading at [`Store`], then [`layer`] (how a tar becomes a directory) and [`archive`] (load
//! and save).

pub mod archive;
pub mod blob;
pub mod container;
pub mod copy;
pub mod database;
pub mod diff;
pub mod error;
pub mod explore;
mod files;
pub mod gc;
pub mod image;
pub mod layer;
mod layout;
pub mod pack;
pub mod publish;
pub mod scratch;
pub mod snapshot;
mod store;
pub mod tar;
pub mod usage;
pub mod vault;
pub mod volume;
mod walk;

pub use archive::{
    DirectoryFile, DirectoryImage, FileContent, ImportError, ImportOptions, LoadError, LoadProgress, Loaded,
    SaveError,
};
pub use blob::Blobs;
pub use container::{ContainerDir, Containers};
pub use database::{Batch, Table};
pub use diff::{Change, ChangeKind, DiffError};
pub use error::{DatabaseError, IoError, OpenError};
pub use image::{
    Image, ImageUser, Images, RegisterError, Registration, RemoveError, RemoveOptions, Removed, ResolveError,
    TagError,
};
pub use layer::{LayerError, LayerOptions, LayerRecord, Layers};
pub use scratch::Scratch;
pub use snapshot::{Snapshot, SnapshotError, Snapshots};
pub use store::{Store, random_id};
pub use usage::{DiskUsage, Usage};
pub use vault::{Vault, VaultEntry, VaultError, VaultKind};
pub use volume::{Volume, VolumeError, VolumeSnapshot, VolumeSpec, Volumes};
