//! Images in and out as archives: `load`, `save`, `import`.
//!
//! `load` takes what docker (20.10 and 28), podman and skopeo write: docker-archive, OCI layout,
//! or both in one tar, plain or compressed. `save` writes both in one tar, as docker 28 does.
//! An archive is untrusted: documents and lists have limits, digests are checked, and nothing of
//! it is visible when any part fails.

mod directory;
mod import;
mod load;
pub mod parse;
mod save;
mod spool;

pub use directory::{DirectoryFile, DirectoryImage, DirectoryImageError, FileContent};
pub use import::{ImportError, ImportOptions};
pub use load::{LoadError, LoadProgress, Loaded};
pub use parse::ParseError;
pub(crate) use save::stored_manifest;
pub use save::{SaveError, manifest_of};
