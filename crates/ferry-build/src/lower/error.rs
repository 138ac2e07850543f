//! Why a Dockerfile that parses cannot be built.

use crate::dockerfile::Span;
use crate::dockerfile::expand::ExpandError;

/// One refusal and the instruction it is about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}")]
pub struct LowerError {
    /// What is wrong.
    pub kind: LowerErrorKind,
    /// Where.
    pub span: Span,
}

impl LowerError {
    /// Places a refusal.
    pub fn new(span: Span, kind: LowerErrorKind) -> Self {
        Self { kind, span }
    }
}

/// The kinds of refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum LowerErrorKind {
    #[error("the Dockerfile has no stage to build: there is no FROM")]
    NoStages,
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    #[error("failed to process {text:?}: {source}")]
    Expand {
        text: String,
        #[source]
        source: ExpandError,
    },
    #[error("target stage {name:?} could not be found{}", .suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
    NoTarget { name: String, suggestion: Option<String> },
    #[error("{0:?} names the stage it stands in")]
    OwnStage(String),
    #[error("stage {0} is not defined before this one")]
    LaterStage(String),
    #[error("invalid image name {name:?}: {reason}")]
    InvalidImage { name: String, reason: String },
    #[error("invalid platform {0:?}: {1}")]
    InvalidPlatform(String, String),
    #[error("invalid user {0:?}: empty name")]
    InvalidOwner(String),
    #[error("invalid permissions {0:?}: neither octal nor symbolic")]
    InvalidMode(String),
    #[error(
        "when using {0} with more than one source file, the destination must be a directory and end with a /"
    )]
    DestinationNotDirectory(&'static str),
    #[error("invalid mount: {0}")]
    Mount(String),
    #[error("mount of {0:?}: 'from' doesn't support variable expansion, define alias stage instead")]
    MountFromVariable(String),
    #[error("invalid port {0:?}: {1}")]
    InvalidPort(String, String),
    #[error("invalid stop signal {0:?}")]
    InvalidSignal(String),
    #[error("{0} needs --allow {1}")]
    NotAllowed(&'static str, &'static str),
    #[error("{0} is not supported")]
    Unsupported(String),
    #[error("invalid checksum {0:?}: {1}")]
    InvalidChecksum(String, String),
    #[error("checksum can only be given for one remote source")]
    ChecksumForLocal,
    #[error("invalid SOURCE_DATE_EPOCH {0:?}: not a number of seconds")]
    InvalidEpoch(String),
    #[error("trigger {text:?} of base image {image}: {reason}")]
    Trigger { image: String, text: String, reason: String },
    #[error("failed to parse {0:?} as a number, user or group")]
    InvalidId(String),
}
