//! Why a plan could not be carried out, with everything a user needs to see of it.

use crate::plan::PlanError;
use ferry_api::ClientError;
use std::fmt;

/// A failed container: the fact, then its health output and last log lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The fact, in one line.
    pub headline: String,
    /// The path of dependencies that led to it, outermost first.
    pub path: Vec<String>,
    /// Output of the last health checks.
    pub health: Vec<String>,
    /// Last lines of its log.
    pub log: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline)?;
        if self.path.len() > 1 {
            write!(f, " (needed through {})", self.path.join(" -> "))?;
        }
        Ok(())
    }
}

impl Report {
    /// What the container had to say, to be shown before the headline; empty when it said nothing.
    pub fn details(&self) -> String {
        let mut out = String::new();
        for (title, lines) in [("health check output", &self.health), ("last log lines", &self.log)] {
            if !lines.is_empty() {
                out.push_str(&format!("{title}:\n"));
                lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
            }
        }
        out
    }
}

/// Why a command against the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The engine refused or was not there.
    #[error("{subject}")]
    Engine {
        /// What was tried.
        subject: String,
        /// Its answer.
        #[source]
        source: ClientError,
    },
    /// No plan could be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A container did not become what others wait for.
    #[error("{0}")]
    Container(Box<Report>),
    /// A hook failed.
    #[error("{hook} hook of service \"{service}\" exited with {code}")]
    Hook {
        /// `post_start` and the like.
        hook: &'static str,
        /// The service.
        service: String,
        /// Its exit code.
        code: i64,
    },
    /// An image that is not there and cannot be had.
    #[error("image {image} of service \"{service}\": {reason}")]
    Image {
        /// The image.
        image: String,
        /// The service.
        service: String,
        /// Why.
        reason: String,
    },
    /// A setting that cannot be carried out.
    #[error("{0}")]
    Setting(String),
    /// A wait took longer than it may.
    #[error("timed out after {seconds} s waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The user broke off.
    #[error("interrupted")]
    Interrupted,
}

impl ApplyError {
    /// The engine's answer to an attempt.
    pub fn engine(subject: impl Into<String>) -> impl FnOnce(ClientError) -> ApplyError {
        let subject = subject.into();
        move |source| ApplyError::Engine { subject, source }
    }

    /// What to type next, where something helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            ApplyError::Plan(error) => error.hint(),
            ApplyError::Engine { source, .. } if source.to_string().contains("port is already allocated") => {
                Some("another container or program uses the port: publish another one, or stop it".to_owned())
            }
            ApplyError::Engine { source, .. } if source.is_not_found() => missing_value(&source.to_string()),
            _ => None,
        }
    }
}

/// `secret NAME not found`: an external one is made by hand.
fn missing_value(text: &str) -> Option<String> {
    let (kind, name) = text.strip_suffix(" not found")?.split_once(' ')?;
    matches!(kind, "secret" | "config")
        .then(|| format!("it is external; create it first: ferry {kind} create {name} FILE"))
}
