//! Looking into images: which layer has which file, what the layers above hide again, and how two images differ.
//!
//! Trees are walked side by side in one order, so memory is a few directories' worth whatever the image's size.

mod compare;
mod layers;
mod union;

pub use compare::{Change, ChangeKind};
pub use layers::{Explored, FileFound, LayerSummary, WastedPath};

use std::io;

use crate::error::IoError;
use crate::layer::LayerError;

/// Why an image could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// A layer is not there.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A tree cannot be walked.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Whoever wanted to know is gone.
    #[error("cannot hand on what was found")]
    Listener(#[source] io::Error),
}
