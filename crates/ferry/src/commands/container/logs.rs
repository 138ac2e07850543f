//! `logs`.

use ferry_api::Call;

use super::{inspect, path};
use crate::cli::{Arity, check_arity};
use crate::failure::{Failure, Outcome};
use crate::output::time;
use crate::session::Session;
use crate::terminal::copy_response;

crate::flags! {
    /// Flags of `logs`.
    pub struct LogsFlags {
        details: bool = '-' "details" "Show extra details provided to logs";
        all: bool = '-' "all" "Search the logs of all containers (with --grep or --level)";
        follow: bool = 'f' "follow" "Follow log output";
        grep: String = '-' "grep" <string> "Show only lines that contain this text; in any case where it is all lower case";
        level: String = '-' "level" <string> "Show only lines of this level or worse: debug, info, warn, error";
        since: String = '-' "since" <string> "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)";
        tail: String = 'n' "tail" <string> "Number of lines to show from the end of the logs (default \"all\")";
        timestamps: bool = 't' "timestamps" "Show timestamps";
        until: String = '-' "until" <string> "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)";
    }
}

/// Runs `logs`.
pub async fn logs(session: &Session, flags: LogsFlags, arguments: Vec<String>) -> Outcome {
    if !flags.grep.is_empty() || !flags.level.is_empty() || flags.all {
        return super::logs_search::search(session, flags, arguments).await;
    }
    if let Some(command) = super::COMMANDS.iter().find(|command| command.names[0] == "logs") {
        check_arity(session, command, Arity::Exactly(1), arguments.len())?;
    }
    let client = session.engine().await?;
    let moment = |flag: &str, value: &str| {
        time::query(value).map_err(|reason| Failure::new(format!("invalid value for --{flag}: {reason}")))
    };
    let (since, until) = (moment("since", &flags.since)?, moment("until", &flags.until)?);
    let container = inspect(client, &arguments[0]).await?;
    let call = Call::get(path(&container.id, "/logs"))
        .query("frames", "shared")
        .query("stdout", "1")
        .query("stderr", "1")
        .query_if("details", flags.details)
        .query_if("follow", flags.follow)
        .query_if("timestamps", flags.timestamps)
        .query_text("since", &since)
        .query_text("until", &until)
        .query("tail", if flags.tail.is_empty() { "all" } else { &flags.tail });
    copy_response(client.call(call).await?, container.config.tty).await?;
    Ok(0)
}
