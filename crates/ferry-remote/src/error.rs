//! What can go wrong between us and a registry. No message holds a credential: addresses are shown without user
//! information and query.

use std::time::Duration;

use ferry_oci::Digest;
use http::{StatusCode, Uri};

/// Why a registry did not give or take what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The host has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// Its name.
        host: String,
        /// What the resolver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The kernel's or TLS library's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The exchange broke off.
    #[error("the exchange with {place} broke off")]
    Exchange {
        /// Address without query.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for too long.
    #[error("{place} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Address without query.
        place: String,
        /// How long was waited.
        after: Duration,
    },
    /// A certificate or key file is no good.
    #[error("cannot use the certificates in {path}: {reason}")]
    Certificates {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing of that name, as far as the asker may know.
    #[error("manifest for {reference} not found: manifest unknown")]
    ManifestUnknown {
        /// What was asked for.
        reference: String,
    },
    /// The registry has no such blob.
    #[error("{repository} has no blob {digest}")]
    BlobUnknown {
        /// Where.
        repository: String,
        /// Which.
        digest: Digest,
    },
    /// The registry refuses this asker; for a pull that is also how it hides what does not exist.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {reason}"
    )]
    Denied {
        /// What was asked for.
        repository: String,
        /// The registry's own words.
        reason: String,
    },
    /// The registry lets this asker not push.
    #[error(
        "push access denied for {repository}, repository does not exist or may require 'docker login': {reason}"
    )]
    PushDenied {
        /// Where to.
        repository: String,
        /// The registry's own words.
        reason: String,
    },
    /// User name and password (or token) were refused.
    #[error("{host} refuses access: {reason}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// The registry's own words.
        reason: String,
    },
    /// A login came to nothing.
    #[error("login attempt to {place} failed with status: {status}: {reason}")]
    LoginRefused {
        /// Address without query.
        place: String,
        /// Status code.
        status: StatusCode,
        /// The registry's own words.
        reason: String,
    },
    /// Too many requests.
    #[error("toomanyrequests: {host} allows no more requests now: {reason}{}", when(*retry_after))]
    TooManyRequests {
        /// The registry.
        host: String,
        /// The registry's own words.
        reason: String,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other refusal.
    #[error("{place} answered {status}: {reason}")]
    Status {
        /// Address without query.
        place: String,
        /// Status code.
        status: StatusCode,
        /// The registry's own words.
        reason: String,
    },
    /// The answer breaks the protocol.
    #[error("{place} gave a wrong answer: {reason}")]
    Protocol {
        /// Address without query.
        place: String,
        /// In which way.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{place} sent bytes with digest {found} where {expected} was asked for")]
    Digest {
        /// Address without query.
        place: String,
        /// Asked for.
        expected: Digest,
        /// Received.
        found: Digest,
    },
    /// The image exists, but not for this platform.
    #[error(
        "no matching manifest for {wanted} in the manifest list entries of {reference}; it has: {present}"
    )]
    NoPlatform {
        /// Which image.
        reference: String,
        /// `os/architecture/variant` wanted.
        wanted: String,
        /// Those that there are.
        present: String,
    },
    /// The manifest is of a kind that is not understood.
    #[error("manifest of {reference} has the unsupported media type `{media_type}`")]
    MediaType {
        /// Which image.
        reference: String,
        /// Its media type.
        media_type: String,
    },
}

impl RemoteError {
    /// The same as it is told to somebody who pushes.
    #[must_use]
    pub fn of_push(self) -> Self {
        match self {
            Self::Denied { repository, reason } => Self::PushDenied { repository, reason },
            other => other,
        }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Exchange { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => status.is_server_error(),
            Self::TooManyRequests { .. }
            | Self::Resolve { .. }
            | Self::Certificates { .. }
            | Self::ManifestUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::Denied { .. }
            | Self::PushDenied { .. }
            | Self::Unauthorized { .. }
            | Self::LoginRefused { .. }
            | Self::Protocol { .. }
            | Self::Digest { .. }
            | Self::NoPlatform { .. }
            | Self::MediaType { .. } => false,
        }
    }
}

/// When to come back, where the registry says.
fn when(retry_after: Option<Duration>) -> String {
    match retry_after.map(|after| after.as_secs()) {
        None => String::new(),
        Some(seconds @ 0..120) => format!("; it takes requests again in {seconds} s"),
        Some(seconds @ 120..7200) => format!("; it takes requests again in {} min", seconds.div_ceil(60)),
        Some(seconds) => format!("; it takes requests again in {} h", seconds.div_ceil(3600)),
    }
}

/// An address fit for messages: no user information, no query (which may hold a signature).
#[must_use]
pub fn show(uri: &Uri) -> String {
    format!("{}://{}{}", uri.scheme_str().unwrap_or("http"), show_host(uri), uri.path())
}

/// Host and port of an address, fit for messages: no user information.
#[must_use]
pub fn show_host(uri: &Uri) -> String {
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", uri.host().unwrap_or_default())
}
