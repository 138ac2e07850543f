//! `stop restart kill rm pause unpause rename wait`.

use ferry_api::container::WaitResponse;
use ferry_api::{Call, Client};

use super::{missing, path};
use crate::commands::each;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `stop` and `restart`.
    pub struct StopFlags {
        signal: String = 's' "signal" <string> "Signal to send to the container";
        time: Option<i64> = '-' "time" <int> "Seconds to wait before killing the container (old name of --timeout)";
        timeout: Option<i64> = 't' "timeout" <int> "Seconds to wait before killing the container";
    }
}

crate::flags! {
    /// Flags of `kill`.
    pub struct KillFlags {
        signal: String = 's' "signal" <string> "Signal to send to the container";
    }
}

crate::flags! {
    /// Flags of `rm`.
    pub struct RmFlags {
        force: bool = 'f' "force" "Force the removal of a running container (uses SIGKILL)";
        link: bool = 'l' "link" "Remove the specified link";
        volumes: bool = 'v' "volumes" "Remove anonymous volumes associated with the container";
    }
}

/// One call about one container.
async fn act(client: &Client, name: &str, call: Call) -> Result<(), Failure> {
    let done = client.call(call).await.map_err(|error| missing(error, name))?;
    Ok(done.discard().await?)
}

/// Runs `stop`.
pub async fn stop(session: &Session, flags: StopFlags, names: Vec<String>) -> Outcome {
    end(session, &flags, &names, "/stop").await
}

/// Runs `restart`.
pub async fn restart(session: &Session, flags: StopFlags, names: Vec<String>) -> Outcome {
    end(session, &flags, &names, "/restart").await
}

async fn end(session: &Session, flags: &StopFlags, names: &[String], verb: &str) -> Outcome {
    let client = session.engine().await?;
    if flags.time.is_some() && flags.timeout.is_some() {
        return Err(Failure::new("conflicting options: cannot specify both --timeout and --time"));
    }
    let seconds = flags.timeout.or(flags.time).map(|seconds| seconds.to_string()).unwrap_or_default();
    let seconds = &seconds;
    each(names, async move |name| {
        let call = Call::post(path(name, verb)).query_text("signal", &flags.signal).query_text("t", seconds);
        act(client, name, call).await
    })
    .await
}

/// Runs `kill`.
pub async fn kill(session: &Session, flags: KillFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let signal = &flags.signal;
    each(&names, async move |name| {
        act(client, name, Call::post(path(name, "/kill")).query_text("signal", signal)).await
    })
    .await
}

/// Runs `rm`.
pub async fn rm(session: &Session, flags: RmFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let (flags, called) = (&flags, session.called);
    each(&names, async move |name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let call = Call::delete(path(name, ""))
            .query_if("force", flags.force)
            .query_if("link", flags.link)
            .query_if("v", flags.volumes);
        match client.call(call).await {
            Ok(done) => Ok(done.discard().await?),
            // As with rm -f of a file: what is not there need not be removed.
            Err(error) if flags.force && error.is_not_found() => {
                output::note(&format!("Error response from daemon: {error}"));
                Ok(())
            }
            Err(error) => {
                let running = error.status() == Some(409) && error.to_string().contains("running");
                let failure = missing(error, name);
                Err(if running { failure.hint(format!("{called} rm -f {name}")) } else { failure })
            }
        }
    })
    .await
}

/// Runs `pause`.
pub async fn pause(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    each(&names, async move |name| act(client, name, Call::post(path(name, "/pause"))).await).await
}

/// Runs `unpause`.
pub async fn unpause(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    each(&names, async move |name| act(client, name, Call::post(path(name, "/unpause"))).await).await
}

/// Runs `rename`.
pub async fn rename(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let [old, new] = [names[0].trim(), names[1].trim()];
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("neither old nor new names may be empty"));
    }
    act(client, old, Call::post(path(old, "/rename")).query("name", new)).await?;
    Ok(0)
}

/// Runs `wait`.
pub async fn wait(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let wait_for = async |name: &String| -> Result<WaitResponse, Failure> {
        let response =
            client.call(Call::post(path(name, "/wait"))).await.map_err(|error| missing(error, name))?;
        Ok(response.json().await?)
    };
    let ends = futures_util::future::join_all(names.iter().map(wait_for)).await;
    let mut failures = Vec::new();
    for end in ends {
        match end {
            Ok(WaitResponse { error: Some(error), .. }) if !error.message.is_empty() => {
                failures.push(Failure::new(error.message));
            }
            Ok(end) => output::line(&end.status_code.to_string())?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::many(failures).map_or(Ok(0), Err)
}
