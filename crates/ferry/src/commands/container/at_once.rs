//! `run` in one call, for an engine that is Ferry's: three round trips less.

use ferry_api::client::Response;
use ferry_api::container::CreateRequest;
use ferry_api::run::{CONTAINER, RunEnd, RunResponse, WARNINGS};
use ferry_api::{ApiError, Call, Client, ClientError, Hijacked};

use super::create::{creation, warn, with_image};
use super::options::ContainerFlags;
use super::run::{RunFlags, detach_keys, exit_code, start_failure_code};
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::terminal::{self, Ended, Streams};

/// Runs the container, and gives its outcome; `None` where it has to be done step by step: with a terminal, whose
/// stream has no frames; with a file for the id, which is written before the start; with an engine that does not
/// know the call.
pub async fn run(
    session: &Session,
    flags: &ContainerFlags,
    run_flags: &RunFlags,
    request: &CreateRequest,
) -> Result<Option<i32>, Failure> {
    let config = &request.config;
    let attached = config.attach_stdin || config.attach_stdout || config.attach_stderr;
    let pulls = flags.pull.as_deref() == Some("always");
    if (attached && config.tty) || !(attached || run_flags.detach) || !flags.cidfile.is_empty() || pulls {
        return Ok(None);
    }
    let client = session.engine().await?;
    let call = || creation("/ferry/run", flags, request);
    if run_flags.detach {
        let make = async || known(client.call(call()).await);
        let answer = with_image(session, flags, &config.image, make).await?;
        return match answer {
            Some(answer) => detached(answer).await.map(Some),
            None => Ok(None),
        };
    }
    let make = async || known(client.hijack(attaching(call(), request)).await);
    match with_image(session, flags, &config.image, make).await? {
        Some(stream) => follow(session, client, stream, request, run_flags).await.map(Some),
        None => Ok(None),
    }
}

fn attaching(call: Call, request: &CreateRequest) -> Call {
    let config = &request.config;
    call.query_if("stdin", config.attach_stdin)
        .query_if("stdout", config.attach_stdout)
        .query_if("stderr", config.attach_stderr)
}

/// Nothing where the engine does not know the call. What is not found otherwise has a name.
fn known<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Err(error) if error.is_not_found() && !error.to_string().starts_with("No such") => Ok(None),
        result => result.map(Some),
    }
}

async fn detached(answer: Response) -> Outcome {
    let made: RunResponse = answer.json().await?;
    warn(&made.warnings);
    if let Some(message) = made.start_error {
        return Err(not_started(message));
    }
    output::line(&made.id)?;
    Ok(0)
}

async fn follow(
    session: &Session,
    client: &Client,
    stream: Hijacked,
    request: &CreateRequest,
    run_flags: &RunFlags,
) -> Outcome {
    let header =
        |name: &str| stream.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    warn(&serde_json::from_str::<Vec<String>>(header(WARNINGS)).unwrap_or_default());
    if run_flags.sig_proxy.unwrap_or(true) {
        terminal::forward(client, header(CONTAINER));
    }
    let detach_keys = detach_keys(session, &run_flags.detach_keys)?;
    let streams = Streams { stdin: request.config.attach_stdin, tty: false, detach_keys };
    match terminal::connect(stream, streams).await? {
        Ended::Told(end) => told(&end),
        Ended::Closed => Err(Failure::new("the engine broke off before it told how the container ended")
            .code(ENGINE_FAILED)
            .hint("the container may still run: 'ferry ps' shows it")),
        Ended::Detached => Ok(0),
        Ended::Signalled(number) => Err(Failure::silent(128 + number)),
    }
}

fn told(end: &[u8]) -> Outcome {
    let unreadable = |error: serde_json::Error| Failure::new(format!("how the run ended: {error}"));
    let RunEnd { end, start_error } =
        serde_json::from_slice(end).map_err(|error| unreadable(error).code(ENGINE_FAILED))?;
    match start_error {
        Some(message) => Err(not_started(message)),
        None => exit_code(end.unwrap_or_default()),
    }
}

fn not_started(message: String) -> Failure {
    let code = start_failure_code(&message);
    Failure::from(ClientError::from(ApiError { status: 500, message })).code(code)
}
