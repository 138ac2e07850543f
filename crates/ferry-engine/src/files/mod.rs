//! The files of a container from outside: `cp`, `export`, `diff`, `commit`.
//!
//! A running container's root is reached through the mount that its monitor holds, a stopped one's
//! by mounting it for the moment (the same writable layer must not be mounted twice, so no start
//! gets between). Volumes are put in by path. Every path is resolved name by name below the root:
//! what a container does to its own links meanwhile cannot lead outside.

mod archive;
mod commit;
mod root;
mod target;
mod view;

pub use archive::{ArchiveError, Asked, PathStat, PutOptions, get, put, stat};
pub use commit::{CommitError, CommitRequest, commit};
pub use root::{RootError, with_image_root, with_root};
pub use view::{Follow, Place, View};
