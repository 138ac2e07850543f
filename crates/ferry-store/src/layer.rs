//! Layers: from a tar stream, in any compression, to a directory that overlayfs can stack.
//!
//! Owns `layers/`. A layer comes in by one pass over its bytes: hash as they arrive, inflate, hash
//! again, unpack. It is unpacked alone, without its parents, so layers of an image come in side by
//! side and in any order: whiteouts become overlay's (0:0 character devices, `trusted.overlay.opaque`),
//! and directories that the tar only implies are recorded, to take their attributes from the
//! layers below when an image is registered. (Docker's overlay2 driver unpacks into the bare
//! directory too, so what links to a lower layer fails in both.)
//!
//! Life of a layer: unpacked in `ingest/`; its digest is right; renamed to `layers/` (usable,
//! *pending*); durable together with an image or by [`Layers::persist`]; discarded when nothing refers to it.
//! Pending layers do not survive the process: the next start sweeps them.

mod compression;
mod error;
mod gzip;
mod implicit;
mod import;
mod index;
mod limits;
mod place;
mod stage;
mod tree;
mod unpack;

pub use compression::{Compression, Decoder};
pub use error::LayerError;
pub use gzip::ParallelGzip;
pub use import::{LayerOptions, extract};
pub use index::{LayerRecord, Layers};
pub(crate) use tree::{Tree, overlay_opaque, set_mode};
pub use tree::{components, make_directory, remove_all};
pub(crate) use unpack::is_whiteout;
pub use unpack::{Target, UnpackOptions, Unpacked};
