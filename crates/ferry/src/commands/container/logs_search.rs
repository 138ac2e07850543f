//! `logs --grep --level`: lines of one, several or all containers, by their text and by the level that they name.

use ferry_api::container::Summary;
use ferry_api::{Call, Client};
use futures_util::future::join_all;

use super::logs::LogsFlags;
use super::{inspect, path};
use crate::failure::{Failure, Outcome};
use crate::output::{self, time};
use crate::session::Session;

/// Levels from the mildest on, and the words that name them.
const LEVELS: [(&str, &[&str]); 4] = [
    ("debug", &["trace", "debug", "dbg", "verbose"]),
    ("info", &["info", "information", "notice", "inf"]),
    ("warn", &["warn", "warning", "wrn"]),
    (
        "error",
        &["error", "err", "fatal", "crit", "critical", "panic", "alert", "emerg", "severe", "fail", "failed"],
    ),
];
/// How far into a line its level may stand.
const LEVEL_WITHIN: usize = 160;

/// Which lines.
struct Wanted {
    text: String,
    any_case: bool,
    level: usize,
}

/// Runs `logs` with a search.
pub async fn search(session: &Session, flags: LogsFlags, names: Vec<String>) -> Outcome {
    if flags.follow {
        return Err(Failure::new("--follow does not go with --grep, --level and --all")
            .hint("'logs -f CONTAINER | grep TEXT' follows one container"));
    }
    let wanted = wanted(&flags)?;
    let client = session.engine().await?;
    let names = if flags.all || names.is_empty() { all(client).await? } else { names };
    let found = join_all(names.iter().map(|name| one(client, name, &flags))).await;
    let several = names.len() > 1;
    let mut lines: Vec<(String, String, &str)> = Vec::new();
    for (name, log) in names.iter().zip(found) {
        match log {
            Ok(log) => lines.extend(matches(&log, &wanted).map(|(time, text)| (time, text, name.as_str()))),
            // Of all containers some may keep no log, or be gone by now.
            Err(failure) if flags.all && failure.is_engine_refusal() => continue,
            Err(failure) => return Err(failure),
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let first = match flags.tail.parse::<usize>() {
        Ok(count) => lines.len().saturating_sub(count),
        Err(_) => 0,
    };
    let mut text = String::new();
    for (time, line, name) in &lines[first..] {
        if several {
            text.push_str(&format!("{name} | "));
        }
        if flags.timestamps {
            text.push_str(&format!("{time} "));
        }
        text.push_str(line);
        text.push('\n');
    }
    output::write(text.as_bytes())?;
    Ok(i32::from(lines.is_empty()))
}

fn wanted(flags: &LogsFlags) -> Result<Wanted, Failure> {
    let level = match flags.level.to_ascii_lowercase().as_str() {
        "" => 0,
        text => LEVELS.iter().position(|(_, words)| words.contains(&text)).ok_or_else(|| {
            Failure::new(format!("there is no level {text:?}")).hint("debug, info, warn and error are known")
        })?,
    };
    let any_case = !flags.grep.chars().any(char::is_uppercase);
    // Without a level every line counts, also one that names none.
    let level = if flags.level.is_empty() { usize::MAX } else { level };
    Ok(Wanted { text: flags.grep.clone(), any_case, level })
}

async fn all(client: &Client) -> Result<Vec<String>, Failure> {
    let found: Vec<Summary> =
        client.call(Call::get("/containers/json").query("all", "1")).await?.json().await?;
    let name = |one: &Summary| one.names.first().map(|name| name.trim_start_matches('/').to_owned());
    Ok(found.iter().filter_map(name).collect())
}

/// A container's log with times, standard error among it.
async fn one(client: &Client, name: &str, flags: &LogsFlags) -> Result<Vec<u8>, Failure> {
    let moment = |flag: &str, value: &str| {
        time::query(value).map_err(|reason| Failure::new(format!("invalid value for --{flag}: {reason}")))
    };
    let container = inspect(client, name).await?;
    let call = Call::get(path(&container.id, "/logs"))
        .query("stdout", "1")
        .query("stderr", "1")
        .query("timestamps", "1")
        .query_if("details", flags.details)
        .query_text("since", &moment("since", &flags.since)?)
        .query_text("until", &moment("until", &flags.until)?);
    let bytes = client.call(call).await?.bytes().await?;
    if container.config.tty {
        return Ok(bytes.to_vec());
    }
    let mut decoder = ferry_api::multiplex::Decoder::default();
    decoder.push(&bytes);
    let mut text = Vec::with_capacity(bytes.len());
    while let Ok(Some((_, piece))) = decoder.next_piece() {
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

fn matches<'a>(log: &'a [u8], wanted: &'a Wanted) -> impl Iterator<Item = (String, String)> + 'a {
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let (time, text) = line.split_once(' ').unwrap_or((&line, ""));
        let contains = match wanted.any_case {
            true => text.to_lowercase().contains(&wanted.text),
            false => text.contains(&wanted.text),
        };
        let severe = wanted.level == usize::MAX || level(text).is_some_and(|level| level >= wanted.level);
        (contains && severe).then(|| (time.to_owned(), text.trim_end_matches('\r').to_owned()))
    })
}

/// The level that a line names, by the first of its words that is one.
fn level(line: &str) -> Option<usize> {
    let head: String = line.chars().take(LEVEL_WITHIN).collect::<String>().to_ascii_lowercase();
    let mut words = head.split(|c: char| !c.is_ascii_alphabetic());
    words.find_map(|word| LEVELS.iter().position(|(_, names)| names.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_texts() {
        for (line, wanted) in [
            ("2024/01/02 [ERROR] disk full", Some(3)),
            ("{\"level\":\"warning\",\"msg\":\"error soon\"}", Some(2)),
            ("level=info ready", Some(1)),
            ("hello world", None),
        ] {
            assert_eq!(level(line), wanted, "{line}");
        }
        let log = b"T1 INFO ready\nT2 ERROR Disk full\nT3 plain\n";
        let found = |text: &str, level: &str| {
            let flags = LogsFlags { grep: text.into(), level: level.into(), ..LogsFlags::default() };
            let wanted = wanted(&flags).unwrap_or_else(|failure| panic!("{}", failure.message));
            matches(log, &wanted).map(|(time, _)| time).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("disk", ""), "T2");
        assert_eq!(found("DISK", ""), "");
        assert_eq!(found("", "warn"), "T2");
        assert_eq!(found("", "info"), "T1 T2");
        assert_eq!(found("", ""), "T1 T2 T3");
    }
}
