//! Engines behind ssh: `ssh MACHINE ferry system dial-stdio` carries the bytes, and ssh's own configuration
//! decides about keys, names, ports and jumps.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long ssh may try to connect, in seconds: Docker's value.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=30";

/// Where ssh goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// The user, where one is named.
    pub user: Option<String>,
    /// The machine's name or address.
    pub machine: String,
    /// The port, where one is named.
    pub port: Option<u16>,
    /// The engine's socket on that machine, where it is not the default one.
    pub socket: Option<String>,
}

impl SshHost {
    /// Reads what stands behind `ssh://`; None when it is no such address.
    pub(super) fn parse(text: &str) -> Option<SshHost> {
        let (place, socket) = match text.split_once('/') {
            Some((place, path)) => (place, (!path.is_empty()).then(|| format!("/{path}"))),
            None => (text, None),
        };
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, place),
        };
        let (machine, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':')),
            None => match place.rsplit_once(':') {
                Some((machine, port)) => (machine, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map(str::parse).transpose().ok()?;
        let plain =
            |text: &str| !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
        // A password in an address ends up in histories and lists of processes; ssh asks for it, or has a key.
        let user_is_plain = user.as_deref().is_none_or(|user| plain(user) && !user.contains(':'));
        (user_is_plain && plain(machine)).then(|| SshHost { user, machine: machine.to_owned(), port, socket })
    }

    /// The words after `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-o", CONNECT_TIMEOUT, "-T"].map(str::to_owned).into();
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        let host = match &self.socket {
            Some(path) => format!(" -H {}", quoted(&format!("unix://{path}"))),
            None => String::new(),
        };
        // The shell at the other end decides which of the two programs there is.
        let remote = format!(
            "if command -v ferry >/dev/null 2>&1; then exec ferry{host} system dial-stdio; \
             else exec docker{host} system dial-stdio; fi"
        );
        words.extend(["--".to_owned(), self.machine.clone(), format!("sh -c {}", quoted(&remote))]);
        words
    }

    /// Starts ssh; its complaints go to our standard error.
    pub(super) fn connect(&self) -> io::Result<SshStream> {
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::new(error.kind(), "the program 'ssh' is not installed"),
                _ => error,
            })?;
        let piped = "both ends were asked for as pipes";
        let (stdin, stdout) = (child.stdin.take().expect(piped), child.stdout.take().expect(piped));
        Ok(SshStream { stdin: Some(stdin), stdout, _child: child })
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl std::fmt::Display for SshHost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        match self.machine.contains(':') {
            true => write!(out, "[{}]", self.machine)?,
            false => out.write_str(&self.machine)?,
        }
        if let Some(port) = self.port {
            write!(out, ":{port}")?;
        }
        out.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

/// The pipes of a running ssh. Ends it when dropped.
#[derive(Debug)]
pub struct SshStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _child: Child,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// A pipe is closed for writing by dropping it.
    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_words() {
        for text in ["lab", "ann@lab", "ann@lab:2222", "ann@[::1]:22/run/x.sock", "lab/run/ferry.sock"] {
            let host = SshHost::parse(text).unwrap();
            assert_eq!(host.to_string(), format!("ssh://{text}"));
        }
        for text in ["", "-oProxyCommand=x", "ann:secret@lab", "lab:port", "@lab", "a b"] {
            assert_eq!(SshHost::parse(text), None, "{text}");
        }
        let words = SshHost::parse("ann@lab:2222/run/x.sock").unwrap().arguments();
        assert_eq!(words[3..8], ["-l", "ann", "-p", "2222", "--"]);
        assert!(words[8] == "lab" && words[9].contains("unix:///run/x.sock"));
    }
}
