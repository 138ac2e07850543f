//! `attach`, and what `run` and `start -a` share with it.

use ferry_api::{Call, Client, Hijacked};

use super::run::{begin_wait, detach_keys};
use super::{inspect, path};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::terminal::{self, DetachKeys, Ended, Streams, Target};

crate::flags! {
    /// Flags of `attach`.
    pub struct AttachFlags {
        detach_keys: String = '-' "detach-keys" <string> "Override the key sequence for detaching a container";
        no_stdin: bool = '-' "no-stdin" "Do not attach STDIN";
        sig_proxy: Option<bool> = '-' "sig-proxy" "Proxy all received signals to the process (default true)";
    }
}

/// Which streams are attached, and how.
pub struct Attachment {
    /// Ours to its stdin.
    pub stdin: bool,
    /// Its stdout to ours.
    pub stdout: bool,
    /// Its stderr to ours.
    pub stderr: bool,
    /// It has a terminal.
    pub tty: bool,
    /// What was printed before, too.
    pub logs: bool,
    /// Keys that detach.
    pub keys: DetachKeys,
    /// The same as given, for the engine.
    pub given_keys: String,
}

/// Runs `attach`.
pub async fn attach(session: &Session, flags: AttachFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let client = session.engine().await?;
    let container = inspect(client, name).await?;
    if !container.state.running {
        return Err(Failure::new("cannot attach to a stopped container, start it first")
            .hint(format!("{} start -a {name}", session.called)));
    }
    if container.state.paused {
        return Err(Failure::new("cannot attach to a paused container, unpause it first")
            .hint(format!("{} unpause {name}", session.called)));
    }
    if container.state.restarting {
        return Err(Failure::new("cannot attach to a restarting container, wait until it is running"));
    }
    let stdin = container.config.open_stdin && !flags.no_stdin;
    let tty = container.config.tty;
    if tty && stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY").hint("add --no-stdin to only watch"));
    }
    let attachment = Attachment {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        logs: false,
        keys: detach_keys(session, &flags.detach_keys)?,
        given_keys: flags.detach_keys,
    };
    let wait = begin_wait(client, &container.id, "not-running").await?;
    let stream = attach_container(client, &container.id, &attachment).await?;
    if flags.sig_proxy.unwrap_or(true) && !tty {
        terminal::forward(client, &container.id);
    }
    if tty && terminal::stdin_is_terminal() {
        terminal::forward_resize(client, Target::Container(container.id.clone())).await;
    }
    finish(stream, attachment, wait).await
}

/// Opens the stream of a container.
pub async fn attach_container(
    client: &Client,
    id: &str,
    attachment: &Attachment,
) -> Result<Hijacked, Failure> {
    let call = Call::post(path(id, "/attach"))
        .query("stream", "1")
        .query_if("stdin", attachment.stdin)
        .query_if("stdout", attachment.stdout)
        .query_if("stderr", attachment.stderr)
        .query_if("logs", attachment.logs)
        .query_text("detachKeys", &attachment.given_keys);
    Ok(client.hijack(call).await?)
}

/// Copies until the container ends or the user detaches; gives the exit code.
pub async fn finish(
    stream: Hijacked,
    attachment: Attachment,
    wait: impl Future<Output = Outcome>,
) -> Outcome {
    let streams = Streams { stdin: attachment.stdin, tty: attachment.tty, detach_keys: attachment.keys };
    match terminal::connect(stream, streams).await? {
        Ended::Closed | Ended::Told(_) => wait.await,
        Ended::Detached => {
            output::note("read escape sequence");
            Ok(0)
        }
        Ended::Signalled(number) => Err(Failure::silent(128 + number)),
    }
}
