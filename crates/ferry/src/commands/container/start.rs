//! `start`.

use ferry_api::Call;

use super::attach::{Attachment, attach_container, finish};
use super::run::{begin_wait, detach_keys};
use super::{inspect, missing, path};
use crate::commands::each;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::terminal::{self, Target};

crate::flags! {
    /// Flags of `start`.
    pub struct StartFlags {
        attach: bool = 'a' "attach" "Attach STDOUT/STDERR and forward signals";
        checkpoint: String = '-' "checkpoint" <string> "Restore from this checkpoint";
        checkpoint_dir: String = '-' "checkpoint-dir" <string> "Use a custom checkpoint storage directory";
        detach_keys: String = '-' "detach-keys" <string> "Override the key sequence for detaching a container";
        interactive: bool = 'i' "interactive" "Attach container's STDIN";
    }
}

/// Runs `start`.
pub async fn start(session: &Session, flags: StartFlags, arguments: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    if flags.attach || flags.interactive {
        return match arguments.as_slice() {
            [name] => attached(session, &flags, name).await,
            _ => Err(Failure::new("you cannot start and attach multiple containers at once")),
        };
    }
    let checkpoint = &flags.checkpoint;
    each(&arguments, async move |name| {
        let call = Call::post(path(name, "/start")).query_text("checkpoint", checkpoint);
        let started = client.call(call).await.map_err(|error| missing(error, name))?;
        Ok(started.discard().await?)
    })
    .await
}

async fn attached(session: &Session, flags: &StartFlags, name: &str) -> Outcome {
    let client = session.engine().await?;
    let container = inspect(client, name).await?;
    let tty = container.config.tty;
    let stdin = flags.interactive && container.config.open_stdin;
    if tty && stdin && !terminal::stdin_is_terminal() {
        return Err(
            Failure::new("the input device is not a TTY").hint("leave -i away when the input is no terminal")
        );
    }
    if !tty {
        terminal::forward(client, &container.id);
    }
    let attachment = Attachment {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        logs: false,
        keys: detach_keys(session, &flags.detach_keys)?,
        given_keys: flags.detach_keys.clone(),
    };
    let stream = attach_container(client, &container.id, &attachment).await?;
    let removes = container.host_config.auto_remove;
    let running = container.state.running;
    let condition = match (removes, running) {
        (true, _) => "removed",
        (false, true) => "not-running",
        (false, false) => "next-exit",
    };
    let wait = begin_wait(client, &container.id, condition).await?;
    super::run::start(client, &container.id).await.map_err(|failure| failure.code(1))?;
    if tty && terminal::stdin_is_terminal() {
        terminal::forward_resize(client, Target::Container(container.id.clone())).await;
    }
    finish(stream, attachment, wait).await
}
