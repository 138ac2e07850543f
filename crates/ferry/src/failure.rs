//! Why a command failed, with the exit code and what to type next; and how that is printed.
//!
//! Libraries state facts; the hints are made here, next to the words of the command line.

use std::io::{self, IsTerminal as _, Write as _};

use ferry_api::client::ClientError;

use crate::cli::Command;

/// A command's result: its exit code, or why there is none.
pub type Outcome = Result<i32, Failure>;

/// Exit code when the engine or the command line is at fault, not the container.
pub const ENGINE_FAILED: i32 = 125;
/// Exit code of a process that SIGPIPE ended; used when the reader of our output went away.
const READER_GONE: i32 = 141;

/// Whose words a failure is in.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The command line is wrong; shows the usage of this command as it was called.
    Usage(&'static Command, String),
    /// The engine refused.
    Engine,
    /// This machine or this program.
    Local,
    /// Everything was said already, or nobody reads it.
    Silent,
}

/// A failure that ends the command.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// Whose words.
    pub origin: Origin,
    /// What happened; several lines when several things failed.
    pub message: String,
    /// Each the cause of the one before.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure of this machine or program.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            origin: Origin::Local,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Ends with this code and no word.
    pub fn silent(code: i32) -> Failure {
        Failure { code, origin: Origin::Silent, ..Failure::new("") }
    }

    /// A failure with its chain of causes.
    pub fn from_error(error: &dyn std::error::Error) -> Failure {
        let mut failure = Failure::new(error.to_string());
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !failure.message.contains(&text) {
                failure.causes.push(text);
            }
            next = cause.source();
        }
        failure
    }

    /// With this exit code.
    pub fn code(mut self, code: i32) -> Failure {
        self.code = code;
        self
    }

    /// With one more hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// With what was tried in front of the message.
    pub fn context(mut self, text: &str) -> Failure {
        self.causes.insert(0, std::mem::replace(&mut self.message, text.to_owned()));
        self
    }

    /// Did the engine say that the thing does not exist?
    pub fn is_engine_refusal(&self) -> bool {
        matches!(self.origin, Origin::Engine)
    }

    /// Several failures as one; the exit code is the first one's.
    pub fn many(failures: Vec<Failure>) -> Option<Failure> {
        let mut failures = failures.into_iter();
        let mut first = failures.next()?;
        for next in failures {
            first.message.push('\n');
            first.message.push_str(&next.message);
            first.causes.extend(next.causes);
            for hint in next.hints {
                if !first.hints.contains(&hint) {
                    first.hints.push(hint);
                }
            }
        }
        Some(first)
    }

    /// Prints it on stderr: as Docker does when called by its name, else as `error:`, causes and hints.
    pub fn report(&self, called: &str, docker_texts: bool) {
        if matches!(self.origin, Origin::Silent) {
            return;
        }
        let text = if docker_texts {
            self.docker_text(called, io::stderr().is_terminal())
        } else {
            self.ferry_text(called)
        };
        // Nothing can be said when stderr itself is gone.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn ferry_text(&self, called: &str) -> String {
        let mut text = String::new();
        for line in self.message.lines() {
            text.push_str(&format!("error: {line}\n"));
        }
        for cause in &self.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if let Origin::Usage(command, path) = &self.origin {
            text.push_str(&format!("\nUsage:  {called} {path} {}\n", command.usage));
            if self.hints.is_empty() {
                text.push_str(&format!("\nhint: run '{called} {path} --help'\n"));
            }
        }
        for hint in &self.hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }

    fn docker_text(&self, called: &str, hints: bool) -> String {
        let mut message = self.message.clone();
        for cause in &self.causes {
            message.push_str(&format!(": {cause}"));
        }
        let prefix = match (&self.origin, self.code) {
            (Origin::Engine, 125..=127) => format!("{called}: Error response from daemon: "),
            (Origin::Engine, _) => "Error response from daemon: ".to_owned(),
            (Origin::Local, 125..=127) => format!("{called}: "),
            _ => String::new(),
        };
        let mut text = String::new();
        for line in message.lines() {
            text.push_str(&format!("{prefix}{line}\n"));
        }
        match &self.origin {
            Origin::Usage(command, path) => text.push_str(&format!(
                "\nUsage:  {called} {path} {}\n\nRun '{called} {path} --help' for more information\n",
                command.usage
            )),
            Origin::Engine if (125..=127).contains(&self.code) => {
                text.push_str(&format!("\nRun '{called} run --help' for more information\n"));
            }
            _ => {}
        }
        // Scripts compare what Docker says; people like to be told more.
        if hints {
            for hint in &self.hints {
                text.push_str(&format!("hint: {hint}\n"));
            }
        }
        text
    }
}

/// What helps where the machine, or an image, lacks something; whatever command ran into it.
fn machine_hint(message: &str) -> Option<&'static str> {
    const HINTS: &[(&str, &str)] = &[
        (
            "no cgroup hierarchy is mounted",
            "mount it ('mount -t cgroup2 none /sys/fs/cgroup'); inside a chroot or container: bind-mount the host's",
        ),
        (
            "not supported as upperdir",
            "this file system cannot hold containers; choose a folder on ext4, xfs, btrfs or tmpfs with \
             'ferry engine start --data-root DIR'",
        ),
        ("overlay: no such device", "this kernel has no overlayfs; load it: modprobe overlay"),
        (
            "no matching entries in passwd file",
            "the image's /etc/passwd has no such user ('ferry run --rm IMAGE cat /etc/passwd' shows it); \
             a number works without an entry: -u 1000",
        ),
        (
            "no matching entries in group file",
            "the image's /etc/group has no such group; a number works without an entry: -u 1000:1000",
        ),
        (
            "cannot find the address of",
            "check the name, and the name servers in this machine's /etc/resolv.conf; behind a proxy the engine \
             needs HTTPS_PROXY in its environment",
        ),
    ];
    HINTS.iter().find(|(text, _)| message.contains(text)).map(|(_, hint)| *hint)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Api(error) => {
                let failure = Failure { origin: Origin::Engine, ..Failure::new(error.message) };
                match machine_hint(&failure.message) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            ClientError::Connect { ref host, ref source } => {
                let hint = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "run as root, or as a member of the group that owns the socket".to_owned()
                    }
                    _ => format!("if an engine shall run there: ferry engine start --host {host}"),
                };
                Failure::from_error(&error).hint(hint)
            }
            other => Failure::from_error(&other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(READER_GONE),
            _ => Failure::from_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_voices() {
        let refused = ferry_api::ApiError::no_such_container("web");
        let failure = Failure::from(ClientError::Api(refused)).hint("run 'ferry ps -a'");
        assert_eq!(failure.ferry_text("ferry"), "error: No such container: web\nhint: run 'ferry ps -a'\n");
        assert_eq!(
            failure.docker_text("docker", true),
            "Error response from daemon: No such container: web\nhint: run 'ferry ps -a'\n"
        );
        let both = Failure::many(vec![Failure::new("a"), Failure::new("b")]).unwrap();
        assert_eq!(both.ferry_text("ferry"), "error: a\nerror: b\n");
    }
}
