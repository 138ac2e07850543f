//! File operations on directories given by descriptor: selecting what a COPY takes, digesting it,
//! copying it, unpacking archives. Every path is walked by openat2(2) below a root; nothing here
//! knows of layers, mounts or caches.

mod account;
mod archive;
mod copy;
mod digest;
mod error;
mod index;
mod mode;
mod reuse;
mod select;
mod tree;
mod unpack;
mod write;

pub use account::Accounts;
pub use archive::{Compression, detect_compression};
pub use copy::{CopySettings, copy_selection};
pub use digest::{ContentKey, FileHashes, HashCache, Hashed, file_keys, selection_key, tree_key};
pub use error::FileError;
pub use index::HashIndex;
pub use mode::ModeChange;
pub use reuse::Reuse;
pub use select::{SelectedRoot, Selection, select};
pub use tree::{Entry, EntryKind, Stamp, Tree};
pub use unpack::{UnpackLimits, unpack_tar};
pub use write::{Owner, TouchedDirectories, make_directory, make_file};

#[cfg(test)]
mod tests;
