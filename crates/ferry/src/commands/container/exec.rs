//! `exec`.

use ferry_api::container::IdResponse;
use ferry_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest};
use ferry_api::{Call, Client};

use super::options::environment;
use super::run::{detach_keys, start_failure_code};
use super::{missing, path};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::terminal::{self, DetachKeys, Ended, Streams, Target};

crate::flags! {
    /// Flags of `exec`.
    pub struct ExecFlags {
        detach: bool = 'd' "detach" "Detached mode: run command in the background";
        detach_keys: String = '-' "detach-keys" <string> "Override the key sequence for detaching a container";
        env: Vec<String> = 'e' "env" <list> "Set environment variables";
        env_file: Vec<String> = '-' "env-file" <list> "Read in a file of environment variables";
        interactive: bool = 'i' "interactive" "Keep STDIN open even if not attached";
        privileged: bool = '-' "privileged" "Give extended privileges to the command";
        tty: bool = 't' "tty" "Allocate a pseudo-TTY";
        user: String = 'u' "user" <string> "Username or UID (format: \"<name|uid>[:<group|gid>]\")";
        workdir: String = 'w' "workdir" <string> "Working directory inside the container";
    }
}

/// Runs `exec`.
pub async fn exec(session: &Session, flags: ExecFlags, arguments: Vec<String>) -> Outcome {
    if flags.interactive && flags.tty && !flags.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY")
            .hint("leave -t away when the input is a pipe or a file; -i alone passes it on"));
    }
    let (name, command) = arguments.split_first().expect("the table wants at least two arguments");
    let keys = detach_keys(session, &flags.detach_keys)?;
    let request = request(&flags, command)?;
    let client = session.engine().await?;
    let created = client.call(Call::post(path(name, "/exec")).json(&request)).await;
    let IdResponse { id } = created.map_err(|error| explain(error, name))?.json().await?;
    if flags.detach {
        let start = ExecStartRequest { detach: true, tty: flags.tty, console_size: None };
        let call = Call::post(format!("/exec/{id}/start")).json(&start);
        client.call(call).await.map_err(|error| start_failure(error.into()))?.discard().await?;
        return Ok(0);
    }
    foreground(client, &id, &flags, keys).await
}

fn request(flags: &ExecFlags, command: &[String]) -> Result<ExecCreateRequest, Failure> {
    let own = |name: &str| std::env::var(name).ok();
    let variables = environment(&flags.env_file, &flags.env, &own).map_err(Failure::new)?;
    Ok(ExecCreateRequest {
        user: flags.user.clone(),
        privileged: flags.privileged,
        tty: flags.tty,
        console_size: (flags.tty && !flags.detach).then(terminal::size),
        attach_stdin: flags.interactive && !flags.detach,
        attach_stdout: !flags.detach,
        attach_stderr: !flags.detach,
        detach_keys: flags.detach_keys.clone(),
        env: (!variables.is_empty()).then_some(variables),
        working_dir: flags.workdir.clone(),
        cmd: Some(command.to_vec()),
    })
}

async fn foreground(client: &Client, id: &str, flags: &ExecFlags, keys: DetachKeys) -> Outcome {
    let start = ExecStartRequest {
        detach: false,
        tty: flags.tty,
        console_size: flags.tty.then(terminal::size).filter(|size| *size != [0, 0]),
    };
    let call = Call::post(format!("/exec/{id}/start")).json(&start);
    let stream = client.hijack(call).await.map_err(|error| start_failure(error.into()))?;
    if flags.tty && terminal::stdin_is_terminal() {
        terminal::forward_resize(client, Target::Exec(id.to_owned())).await;
    }
    let streams = Streams { stdin: flags.interactive, tty: flags.tty, detach_keys: keys };
    match terminal::connect(stream, streams).await? {
        Ended::Detached => {
            output::note("read escape sequence");
            return Ok(0);
        }
        Ended::Signalled(number) => return Err(Failure::silent(128 + number)),
        Ended::Closed | Ended::Told(_) => {}
    }
    let end: ExecInspect = client.call(Call::get(format!("/exec/{id}/json"))).await?.json().await?;
    match end.exit_code {
        Some(code) => Ok(code as i32),
        None => Err(Failure::new("the command still runs, but the engine closed its streams")),
    }
}

/// Docker's exit codes for a command that does not start.
fn start_failure(failure: Failure) -> Failure {
    let code = match start_failure_code(&failure.message) {
        code @ (126 | 127) if failure.is_engine_refusal() => code,
        _ => 1,
    };
    failure.code(code)
}

fn explain(error: ferry_api::ClientError, name: &str) -> Failure {
    let failure = missing(error, name);
    if failure.message.contains("is not running") {
        return failure.hint(format!("start it first: ferry start {name}"));
    }
    if failure.message.contains("is paused") {
        return failure.hint(format!("ferry unpause {name}"));
    }
    failure
}
