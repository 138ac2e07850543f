//! Mounts that cannot be granted.

/// A mount that cannot be understood; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// `-v` with too few or too many parts.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// An option nobody knows, or two that exclude each other.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// A destination that is no absolute path.
    #[error(
        "invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"
    )]
    Relative {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// As given.
        path: String,
    },
    /// The root itself.
    #[error(
        "invalid volume specification: '{0}': invalid mount config for type \"{1}\": invalid specification: destination can't be '/'"
    )]
    Root(String, &'static str),
    /// Something that is needed is empty.
    #[error("invalid mount config for type \"{kind}\": field {field} must not be empty")]
    Missing {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// Docker's field name.
        field: &'static str,
    },
    /// Something is set that this kind does not have.
    #[error("invalid mount config for type \"{kind}\": field {field} must not be specified")]
    Extra {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// Docker's field name.
        field: &'static str,
    },
    /// A volume name with characters that are not allowed.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    /// A kind that is not there.
    #[error("invalid mount config: mount type unknown: {0:?}")]
    Kind(String),
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A propagation nobody knows.
    #[error("invalid propagation mode: {0}")]
    Propagation(String),
    /// Options of a tmpfs that are not allowed.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// A subpath that leaves the volume.
    #[error("invalid subpath {0:?}: it must be relative and stay inside the volume")]
    Subpath(String),
}
