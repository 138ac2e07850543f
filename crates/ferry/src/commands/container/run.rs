//! `run`: create, attach, wait, start; in one call to Ferry's engine where that can be, else the same calls in the
//! same order as Docker's client makes.

use ferry_api::container::{CreateRequest, WaitResponse};
use ferry_api::{Call, Client};

use super::attach::{Attachment, attach_container, finish};
use super::create::{create_container, request};
use super::options::ContainerFlags;
use super::{at_once, path};
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::terminal::{self, DetachKeys, Target};

crate::flags! {
    /// What `run` has beyond `create`.
    pub struct RunFlags {
        detach: bool = 'd' "detach" "Run container in background and print container ID";
        detach_keys: String = '-' "detach-keys" <string> "Override the key sequence for detaching a container";
        sig_proxy: Option<bool> = '-' "sig-proxy" "Proxy received signals to the process (default true)";
    }
}

/// Runs `run`.
pub async fn run(
    session: &Session,
    (flags, run_flags): (ContainerFlags, RunFlags),
    arguments: Vec<String>,
) -> Outcome {
    if flags.interactive && flags.tty && !run_flags.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY")
            .hint("leave -t away when the input is a pipe or a file; -i alone passes it on"));
    }
    let result = run_container(session, &flags, &run_flags, &arguments).await;
    result.map_err(|failure| explain(session, failure, &arguments))
}

async fn run_container(
    session: &Session,
    flags: &ContainerFlags,
    run_flags: &RunFlags,
    arguments: &[String],
) -> Outcome {
    let mut request = request(session, flags, arguments)?;
    if run_flags.detach {
        if !flags.attach.is_empty() {
            return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
        }
        let config = &mut request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    }
    let keys = detach_keys(session, &run_flags.detach_keys)?;
    if let Some(code) = at_once::run(session, flags, run_flags, &request).await? {
        return Ok(code);
    }
    let created = create_container(session, flags, &request).await?;
    let client = session.engine().await?;
    if run_flags.detach {
        start(client, &created.id).await?;
        output::line(&created.id)?;
        return Ok(0);
    }
    foreground(client, &created.id, &request, keys, run_flags).await
}

/// The keys of the flag, or of the configuration file, or Docker's.
pub fn detach_keys(session: &Session, flag: &str) -> Result<DetachKeys, Failure> {
    let configured = if flag.is_empty() { session.config().detach_keys.as_str() } else { flag };
    DetachKeys::parse(configured).map_err(Failure::new)
}

async fn foreground(
    client: &Client,
    id: &str,
    request: &CreateRequest,
    keys: DetachKeys,
    run_flags: &RunFlags,
) -> Outcome {
    let config = &request.config;
    let tty = config.tty;
    if run_flags.sig_proxy.unwrap_or(true) && !tty {
        terminal::forward(client, id);
    }
    let attachment = Attachment {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty,
        logs: false,
        keys,
        given_keys: run_flags.detach_keys.clone(),
    };
    let remove = request.host_config.as_ref().is_some_and(|host| host.auto_remove);
    let attach = async {
        match attachment.stdin || attachment.stdout || attachment.stderr {
            true => attach_container(client, id, &attachment).await.map(Some),
            false => Ok(None),
        }
    };
    // Both must stand before the start; neither needs the other.
    let wait = begin_wait(client, id, if remove { "removed" } else { "next-exit" });
    let (stream, wait) = tokio::try_join!(attach, wait)?;
    if let Err(failure) = start(client, id).await {
        if remove {
            // The engine removes what could not start; the name is free again when that is done.
            let _ = wait.await;
        }
        return Err(failure);
    }
    if tty && terminal::stdin_is_terminal() {
        terminal::forward_resize(client, Target::Container(id.to_owned())).await;
    }
    match stream {
        None => {
            output::line(id)?;
            wait.await
        }
        Some(stream) => finish(stream, attachment, wait).await,
    }
}

/// Starts a container; the failure's exit code tells what kind it is, as Docker's client decides it.
pub async fn start(client: &Client, id: &str) -> Result<(), Failure> {
    match client.call(Call::post(path(id, "/start"))).await {
        Ok(response) => Ok(response.discard().await?),
        Err(error) => {
            let failure = Failure::from(error);
            let code = start_failure_code(&failure.message);
            Err(failure.code(code))
        }
    }
}

/// Docker's rules: what the text says decides between 125, 126 and 127.
pub fn start_failure_code(message: &str) -> i32 {
    let says = |text: &str| message.contains(text);
    if says("executable file not found")
        || says("no such file or directory")
        || says("system cannot find the file")
    {
        127
    } else if says("permission denied") || says("is a directory") {
        126
    } else {
        ENGINE_FAILED
    }
}

/// Registers for the end of a container, and gives its exit code when it comes. The engine has the waiter
/// when this returns, so that no end is missed.
pub async fn begin_wait(
    client: &Client,
    id: &str,
    condition: &str,
) -> Result<impl Future<Output = Outcome> + use<>, Failure> {
    let response = client.call(Call::post(path(id, "/wait")).query("condition", condition)).await?;
    Ok(async move {
        let end = response.json().await.map_err(|error| Failure::from(error).code(ENGINE_FAILED))?;
        exit_code(end)
    })
}

/// What an end means for our own exit code.
pub fn exit_code(end: WaitResponse) -> Outcome {
    match end.error {
        Some(error) if !error.message.is_empty() => {
            Err(Failure::new(format!("error waiting for container: {}", error.message)).code(ENGINE_FAILED))
        }
        _ => Ok(end.status_code as i32),
    }
}

/// Exit code and hints of a failed `run`.
fn explain(session: &Session, mut failure: Failure, arguments: &[String]) -> Failure {
    if failure.code == 1 {
        failure.code = ENGINE_FAILED;
    }
    if let [image, first, rest @ ..] = arguments
        && first.starts_with('-')
        && matches!(failure.code, 126 | 127)
    {
        let (options, command): (Vec<&String>, Vec<&String>) =
            std::iter::once(first).chain(rest).partition(|word| word.starts_with('-'));
        let words = |list: Vec<&String>| list.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
        let line =
            format!("{} {} {} {image} {}", session.called, session.path, words(options), words(command));
        failure = failure.hint(format!("options go before the image: {}", line.trim_end()));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::start_failure_code;

    #[test]
    fn exit_codes() {
        for (message, code) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc\": is a directory", 126),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("port is already allocated", 125),
        ] {
            assert_eq!(start_failure_code(message), code, "{message}");
        }
    }
}
