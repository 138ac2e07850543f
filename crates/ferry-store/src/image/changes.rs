//! `--change`: Dockerfile instructions applied to an image's config (import and commit).

use std::collections::BTreeMap;

use ferry_oci::image::{ContainerConfig, Empty, HealthConfig};

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The instruction is none that changes a config.
    #[error(
        "{0} is not a valid change command (CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR are)"
    )]
    Unknown(String),
    /// The instruction's arguments are wrong.
    #[error("change {change:?}: {reason}")]
    Arguments {
        /// The change as given.
        change: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Most changes in one call.
const CHANGES_MAX: usize = 1000;

/// Applies changes in order; the config is unchanged when one is refused.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<(), ChangeError> {
    let mut changed = config.clone();
    if let Some(change) = changes.get(CHANGES_MAX) {
        return Err(ChangeError::Arguments { change: change.clone(), reason: "more than 1000 changes" });
    }
    for change in changes {
        apply(&mut changed, change)?;
    }
    *config = changed;
    Ok(())
}

fn apply(config: &mut ContainerConfig, change: &str) -> Result<(), ChangeError> {
    let text = change.trim();
    let (instruction, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let wrong = |reason| ChangeError::Arguments { change: change.to_owned(), reason };
    let one = || if rest.is_empty() { Err(wrong("needs an argument")) } else { Ok(rest.to_owned()) };
    let words = || match words(rest) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err(wrong("needs an argument")),
        None => Err(wrong("has an unbalanced quote")),
    };
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(&one()?, config)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(&one()?, config));
        }
        "ENV" => {
            for (name, value) in pairs(rest).ok_or_else(|| wrong("must be NAME=value"))? {
                set_variable(&mut config.env, &name, &value);
            }
        }
        "LABEL" => {
            let labels = config.labels.get_or_insert_with(BTreeMap::new);
            labels.extend(pairs(rest).ok_or_else(|| wrong("must be name=value"))?);
        }
        "EXPOSE" => {
            for port in words()? {
                let port = exposed_port(&port).ok_or_else(|| wrong("must be port[-port][/protocol]"))?;
                config.exposed_ports.insert(port, Empty {});
            }
        }
        "VOLUME" => {
            let paths = json_words(rest).map_or_else(words, Ok)?;
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "ONBUILD" => config.on_build.get_or_insert_with(Vec::new).push(one()?),
        "USER" => config.user = one()?,
        "WORKDIR" => config.working_dir = join_workdir(&config.working_dir, &one()?),
        "STOPSIGNAL" => config.stop_signal = Some(one()?),
        "SHELL" => config.shell = Some(json_words(rest).ok_or_else(|| wrong("must be a JSON list"))?),
        "HEALTHCHECK" => {
            config.healthcheck = Some(healthcheck(rest).ok_or_else(|| wrong("must be NONE or CMD ..."))?)
        }
        _ => return Err(ChangeError::Unknown(instruction.to_owned())),
    }
    Ok(())
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// JSON list as it is, anything else through the shell.
fn command(text: &str, config: &ContainerConfig) -> Vec<String> {
    json_words(text).unwrap_or_else(|| {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        let mut words = config.shell.clone().unwrap_or_else(default);
        words.push(text.to_owned());
        words
    })
}

/// Splits at blanks outside quotes; None when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, c @ ('"' | '\'')) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next().unwrap_or('\\')),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// `a=b c="d e"`, or the old form `NAME value with blanks`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let list = words(text)?;
    let first = list.first()?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    list.iter()
        .map(|word| word.split_once('=').filter(|(name, _)| !name.is_empty()))
        .map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let variable = format!("{name}={value}");
    let same = |known: &&mut String| known.split_once('=').map_or(known.as_str(), |(known, _)| known) == name;
    match env.iter_mut().find(same) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

fn exposed_port(text: &str) -> Option<String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let number = |text: &str| text.parse::<u16>().ok();
    let valid = match ports.split_once('-') {
        Some((first, last)) => number(first)? <= number(last)?,
        None => number(ports).is_some(),
    };
    (valid && matches!(protocol.as_str(), "tcp" | "udp" | "sctp")).then(|| format!("{ports}/{protocol}"))
}

fn join_workdir(current: &str, next: &str) -> String {
    if next.starts_with('/') {
        return next.to_owned();
    }
    format!("{}/{next}", if current == "/" { "" } else { current })
}

fn healthcheck(text: &str) -> Option<HealthConfig> {
    let mut health = HealthConfig::default();
    let mut rest = text.trim();
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace)?;
        let (name, value) = option.split_once('=')?;
        match name {
            "interval" => health.interval = duration(value)?,
            "timeout" => health.timeout = duration(value)?,
            "start-period" => health.start_period = duration(value)?,
            "start-interval" => health.start_interval = duration(value)?,
            "retries" => health.retries = value.parse().ok()?,
            _ => return None,
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    health.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "CMD" if command.is_empty() => return None,
        "CMD" => match json_words(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        _ => return None,
    };
    Some(health)
}

/// Go's durations: `1h2m3.5s`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        total += number * factor;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<serde_json::Value, ChangeError> {
        let mut config = ContainerConfig { env: vec!["A=1".into()], ..Default::default() };
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut config, &changes)?;
        Ok(serde_json::to_value(config).unwrap())
    }

    #[test]
    fn changes_apply() {
        let table: &[(&str, &str, &str)] = &[
            ("CMD [\"a\", \"b\"]", "Cmd", r#"["a","b"]"#),
            ("cmd echo hi", "Cmd", r#"["/bin/sh","-c","echo hi"]"#),
            ("ENTRYPOINT [\"/x\"]", "Entrypoint", r#"["/x"]"#),
            ("ENV A=2 B=\"x y\"", "Env", r#"["A=2","B=x y"]"#),
            ("ENV C some words", "Env", r#"["A=1","C some words"]"#),
            ("EXPOSE 80 53/udp", "ExposedPorts", r#"{"53/udp":{},"80/tcp":{}}"#),
            ("LABEL a=b c='d e'", "Labels", r#"{"a":"b","c":"d e"}"#),
            ("VOLUME /a /b", "Volumes", r#"{"/a":{},"/b":{}}"#),
            ("VOLUME [\"/a b\"]", "Volumes", r#"{"/a b":{}}"#),
            ("WORKDIR /srv", "WorkingDir", r#""/srv""#),
            ("USER 1:2", "User", r#""1:2""#),
            ("STOPSIGNAL SIGQUIT", "StopSignal", r#""SIGQUIT""#),
            ("ONBUILD RUN x", "OnBuild", r#"["RUN x"]"#),
            (
                "HEALTHCHECK --interval=1m30s CMD true",
                "Healthcheck",
                r#"{"Test":["CMD-SHELL","true"],"Interval":90000000000}"#,
            ),
            ("HEALTHCHECK NONE", "Healthcheck", r#"{"Test":["NONE"]}"#),
        ];
        for (change, field, expected) in table {
            let expected = expected.replace("C some words", "C=some words");
            let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
            assert_eq!(changed(&[change]).unwrap()[*field], expected, "{change}");
        }
    }

    #[test]
    fn refusals_name_the_change() {
        for (change, expected) in [
            ("RUN x", "RUN is not a valid change command"),
            ("CMD", "needs an argument"),
            ("ENV", "must be NAME=value"),
            ("EXPOSE http", "must be port"),
            ("LABEL \"a", "must be name=value"),
            ("SHELL sh", "JSON list"),
            ("HEALTHCHECK maybe", "must be NONE or CMD"),
        ] {
            let error = changed(&["WORKDIR /a", change]).unwrap_err().to_string();
            assert!(error.contains(expected), "{change}: {error}");
        }
    }
}
