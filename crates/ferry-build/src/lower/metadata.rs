//! Instructions that change only the configuration.

use std::collections::BTreeMap;

use ferry_oci::image::{Empty, HealthConfig};

use super::error::{LowerError, LowerErrorKind};
use super::history::{plain_list, quoted_list};
use super::stage::StageState;
use crate::dockerfile::ast::{CommandForm, Healthcheck, Instruction, KeyValues, Kind, Word};

/// Most ports that one EXPOSE may open: the port space.
const MAX_PORTS: usize = 65_536;

/// Applies an instruction to the configuration and writes its line of history.
pub fn apply(state: &mut StageState, instruction: &Instruction) -> Result<(), LowerError> {
    match &instruction.kind {
        Kind::Env(values) => env(state, values),
        Kind::Label(values) => label(state, values),
        Kind::Cmd(command) => {
            let arguments = with_shell(&command.form, &state.shell);
            state.record(format!("CMD {}", quoted_list(&arguments)));
            state.image.config.cmd = Some(arguments);
            state.cmd_set = true;
            Ok(())
        }
        Kind::Entrypoint(command) => {
            let arguments = with_shell(&command.form, &state.shell);
            state.record(format!("ENTRYPOINT {}", quoted_list(&arguments)));
            state.image.config.entrypoint = Some(arguments);
            // A CMD of the base was meant for the base's ENTRYPOINT.
            if !state.cmd_set {
                state.image.config.cmd = None;
            }
            Ok(())
        }
        Kind::Expose(words) => expose(state, words),
        Kind::User(word) => {
            let user = state.expand(word)?;
            state.record(format!("USER {user}"));
            state.image.config.user = user;
            Ok(())
        }
        Kind::Volume(words) => volume(state, words),
        Kind::Stopsignal(word) => stop_signal(state, word),
        Kind::Shell(words) => {
            state.record(format!("SHELL {}", plain_list(words)));
            state.shell.clone_from(words);
            state.image.config.shell = Some(words.clone());
            Ok(())
        }
        Kind::Healthcheck(check) => healthcheck(state, check),
        Kind::Onbuild(onbuild) => {
            state.record(format!("ONBUILD {}", onbuild.expression));
            state.image.config.on_build.get_or_insert_with(Vec::new).push(onbuild.expression.clone());
            Ok(())
        }
        Kind::Maintainer(name) => {
            state.record(format!("MAINTAINER {}", name.value));
            if let Some(line) = state.history.last_mut() {
                line.author = Some(name.value.clone());
            }
            state.image.author = Some(name.value.clone());
            Ok(())
        }
        Kind::From(_) | Kind::Arg(_) | Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
            Ok(())
        }
    }
}

/// The words of a command; the shell form goes through the shell.
pub fn with_shell(form: &CommandForm, shell: &[String]) -> Vec<String> {
    match form {
        CommandForm::Exec(arguments) => arguments.clone(),
        CommandForm::Shell(line) if line.is_empty() => Vec::new(),
        CommandForm::Shell(line) => shell.iter().cloned().chain([line.clone()]).collect(),
    }
}

/// Pairs expanded with the values from before the instruction.
fn expand_pairs(state: &mut StageState, values: &KeyValues) -> Result<Vec<(String, String)>, LowerError> {
    values.pairs.iter().map(|(key, value)| Ok((state.expand(key)?, state.expand(value)?))).collect()
}

fn env(state: &mut StageState, values: &KeyValues) -> Result<(), LowerError> {
    let pairs = expand_pairs(state, values)?;
    state.record(format!("ENV {}", joined(&pairs)));
    for (name, value) in pairs {
        state.scope.set_env(name, value);
    }
    Ok(())
}

fn label(state: &mut StageState, values: &KeyValues) -> Result<(), LowerError> {
    let pairs = expand_pairs(state, values)?;
    state.record(format!("LABEL {}", joined(&pairs)));
    state.image.config.labels.get_or_insert_with(BTreeMap::new).extend(pairs);
    Ok(())
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn expose(state: &mut StageState, words: &[Word]) -> Result<(), LowerError> {
    let mut ports = Vec::new();
    for word in words {
        for text in state.expand_words(word)?.words {
            let parsed = parse_ports(&text)
                .map_err(|reason| LowerError::new(word.span, LowerErrorKind::InvalidPort(text, reason)))?;
            ports.extend(parsed);
        }
    }
    ports.sort();
    ports.dedup();
    state.record(format!("EXPOSE {}", plain_list(&ports)));
    state.image.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
    Ok(())
}

/// `[[host:]host-port:]port[-port][/protocol]` into `port/protocol` entries.
pub fn parse_ports(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    // What stands before the last colon would publish a port, which an image cannot.
    let range = range.rsplit(':').next().unwrap_or(range);
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("invalid containerPort: {text:?}"));
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if first > last || usize::from(last - first) >= MAX_PORTS {
        return Err(format!("invalid range {range:?}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn volume(state: &mut StageState, words: &[Word]) -> Result<(), LowerError> {
    let mut volumes = Vec::new();
    for word in words {
        let path = state.expand(word)?;
        if path.is_empty() {
            return Err(LowerError::new(word.span, LowerErrorKind::InvalidOwner(word.value.clone())));
        }
        volumes.push(path);
    }
    state.record(format!("VOLUME {}", plain_list(&volumes)));
    state.image.config.volumes.extend(volumes.into_iter().map(|path| (path, Empty {})));
    Ok(())
}

fn stop_signal(state: &mut StageState, word: &Word) -> Result<(), LowerError> {
    let signal = state.expand(word)?;
    let name = signal.to_ascii_uppercase();
    let number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    if !number && !is_signal(name.strip_prefix("SIG").unwrap_or(&name)) {
        return Err(LowerError::new(word.span, LowerErrorKind::InvalidSignal(signal)));
    }
    state.record(format!("STOPSIGNAL {signal}"));
    state.image.config.stop_signal = Some(signal);
    Ok(())
}

fn is_signal(name: &str) -> bool {
    const NAMES: [&str; 35] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    NAMES.contains(&name)
        || real_time
            .is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u8>().is_ok_and(|offset| offset <= 15))
}

fn healthcheck(state: &mut StageState, check: &Healthcheck) -> Result<(), LowerError> {
    let health = match check {
        Healthcheck::None => HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() },
        Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match &command.form {
                CommandForm::Exec(arguments) => {
                    ["CMD".to_owned()].into_iter().chain(arguments.clone()).collect()
                }
                CommandForm::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            };
            HealthConfig {
                test,
                interval: interval.unwrap_or(0),
                timeout: timeout.unwrap_or(0),
                start_period: start_period.unwrap_or(0),
                start_interval: start_interval.unwrap_or(0),
                retries: retries.unwrap_or(0),
            }
        }
    };
    let times = [health.interval, health.timeout, health.start_period, health.start_interval];
    let times = times.map(|nanoseconds| format!("{:?}", go_duration(nanoseconds)));
    state.record(format!(
        "HEALTHCHECK &{{{} {} '\\x{:02x}'}}",
        quoted_list(&health.test),
        times.join(" "),
        health.retries
    ));
    state.image.config.healthcheck = Some(health);
    Ok(())
}

/// Go's way of printing a duration: `1m30s`, `0s`, `1.5s`.
fn go_duration(nanoseconds: i64) -> String {
    if nanoseconds < 1_000_000_000 {
        return match nanoseconds {
            0 => "0s".to_owned(),
            _ => format!("{}ms", nanoseconds as f64 / 1e6),
        };
    }
    let seconds = nanoseconds as f64 / 1e9;
    let (hours, minutes) = ((seconds / 3600.0) as u64, (seconds / 60.0) as u64 % 60);
    let rest = seconds - (hours * 3600 + minutes * 60) as f64;
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(parse_ports("80").expect("valid"), ["80/tcp"]);
        assert_eq!(parse_ports("53/UDP").expect("valid"), ["53/udp"]);
        assert_eq!(parse_ports("8000-8002").expect("valid"), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(parse_ports("127.0.0.1:80:8080").expect("valid"), ["8080/tcp"]);
        for bad in ["a", "80/foo", "9-8", "70000", ""] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        assert!(["KILL", "RTMIN", "RTMIN+3", "RTMAX-1"].iter().all(|name| is_signal(name)));
        assert!(!is_signal("FOO") && !is_signal("RTMIN+99"));
    }

    #[test]
    fn durations_print_as_in_go() {
        assert_eq!(go_duration(90_000_000_000), "1m30s");
        assert_eq!(go_duration(0), "0s");
        assert_eq!(go_duration(1_500_000_000), "1.5s");
        assert_eq!(go_duration(3_600_000_000_000), "1h0m0s");
    }
}
