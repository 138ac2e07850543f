//! Why a seccomp profile is refused.

/// A seccomp profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is not JSON of Docker's form.
    #[error("cannot read seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// The profile contradicts itself or asks for what does not exist.
    #[error("invalid seccomp profile: {reason}")]
    Profile {
        /// What is wrong.
        reason: String,
    },
    /// An architecture without a syscall table here.
    #[error("seccomp profile names unknown architecture {name:?}")]
    UnknownArchitecture {
        /// The name.
        name: String,
    },
    /// A syscall argument index beyond the six there are.
    #[error("seccomp rule for {syscall} compares argument {index}, but syscalls have arguments 0 to 5")]
    ArgumentIndex {
        /// The syscall.
        syscall: String,
        /// The index.
        index: usize,
    },
    /// An action this runtime cannot carry out.
    #[error("seccomp action {action} is not supported: {reason}")]
    Action {
        /// The action.
        action: String,
        /// Why not.
        reason: String,
    },
    /// The program would be longer than the kernel takes.
    #[error("seccomp profile compiles to {length} instructions, the kernel takes at most 4096")]
    TooLong {
        /// Its length.
        length: usize,
    },
}
