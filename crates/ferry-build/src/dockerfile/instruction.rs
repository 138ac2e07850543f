//! One function per instruction: checked arguments in, typed [`Kind`] out.

use super::ast::{
    ArgDefinition, CommandForm, CommandLine, From, Healthcheck, KeyValues, Kind, Onbuild, Run, Transfer,
    TransferSource, Word,
};
use super::duration::parse_duration;
use super::error::{ParseError, ParseErrorKind};
use super::flag::{FlagType, Flags, invalid};
use super::parse::{Parts, parse_kind};
use super::source::Spanned;
use super::word::{HeredocStart, JsonForm, RawWord, json_form, split_blank, split_quoted};
use super::{ast::Instruction, mount};

type Parsed = Result<Kind, ParseError>;

pub fn add(parts: &Parts<'_>) -> Parsed {
    let flags = Flags::parse(
        parts.file,
        &parts.flags,
        &[
            ("keep-git-dir", FlagType::Switch),
            ("link", FlagType::Switch),
            ("chown", FlagType::Text),
            ("chmod", FlagType::Text),
            ("checksum", FlagType::Text),
            ("exclude", FlagType::List),
            ("unpack", FlagType::Switch),
        ],
    )?;
    transfer(parts, &flags, "ADD").map(Kind::Add)
}

pub fn copy(parts: &Parts<'_>) -> Parsed {
    let flags = Flags::parse(
        parts.file,
        &parts.flags,
        &[
            ("chown", FlagType::Text),
            ("from", FlagType::Text),
            ("chmod", FlagType::Text),
            ("link", FlagType::Switch),
            ("parents", FlagType::Switch),
            ("exclude", FlagType::List),
        ],
    )?;
    transfer(parts, &flags, "COPY").map(Kind::Copy)
}

fn transfer(parts: &Parts<'_>, flags: &Flags, name: &'static str) -> Result<Transfer, ParseError> {
    let mut words = words_or_json(parts)?;
    let destination = match words.len() {
        0 => return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument(name))),
        1 => return Err(parts.refuse(ParseErrorKind::NoDestination(name))),
        _ => words.pop().expect("two words or more"),
    };
    if HeredocStart::parse(&destination.value).is_some() {
        return Err(parts.refuse(ParseErrorKind::HeredocDestination(destination.value)));
    }
    let sources = words.into_iter().map(|word| transfer_source(parts, word)).collect();
    Ok(Transfer {
        sources,
        destination,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir").unwrap_or(false),
        unpack: flags.switch("unpack"),
    })
}

fn transfer_source(parts: &Parts<'_>, word: Word) -> TransferSource {
    let heredoc = HeredocStart::parse(&word.value)
        .and_then(|start| parts.heredocs.iter().find(|heredoc| heredoc.name == start.name));
    match heredoc {
        Some(heredoc) => TransferSource::Inline(heredoc.clone()),
        None => TransferSource::Path(word),
    }
}

pub fn arg(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    let words = quoted_words(parts)?;
    if words.is_empty() {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("ARG")));
    }
    let definition = |word: RawWord| {
        let (name, default) = split_pair(parts, &word);
        if name.value.is_empty() {
            return Err(parts.refuse(ParseErrorKind::BlankName("ARG")));
        }
        Ok(ArgDefinition { name, default })
    };
    words.into_iter().map(definition).collect::<Result<_, _>>().map(Kind::Arg)
}

pub fn cmd(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    command_line(parts).map(Kind::Cmd)
}

pub fn entrypoint(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    command_line(parts).map(Kind::Entrypoint)
}

pub fn env(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    key_values(parts, "ENV").map(Kind::Env)
}

pub fn label(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    key_values(parts, "LABEL").map(Kind::Label)
}

pub fn expose(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    let words = blank_words(parts);
    if words.is_empty() {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("EXPOSE")));
    }
    Ok(Kind::Expose(words))
}

pub fn from(parts: &Parts<'_>) -> Parsed {
    let flags = Flags::parse(parts.file, &parts.flags, &[("platform", FlagType::Text)])?;
    let mut words = blank_words(parts).into_iter();
    let (base, as_keyword, name) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(base), None, None, None) => (base, None, None),
        (Some(base), Some(keyword), Some(name), None) if keyword.value.eq_ignore_ascii_case("as") => {
            (base, Some(keyword), Some(name))
        }
        _ => return Err(parts.refuse(ParseErrorKind::FromArguments)),
    };
    if let Some(name) = &name
        && !is_stage_name(&name.value.to_lowercase())
    {
        let kind = ParseErrorKind::InvalidStageName(name.value.clone());
        return Err(ParseError::new(parts.file, name.span, kind));
    }
    Ok(Kind::From(From { base, name, as_keyword, platform: flags.text("platform") }))
}

/// `[a-z][a-z0-9-_.]*`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

pub fn healthcheck(parts: &Parts<'_>) -> Parsed {
    const TIMES: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];
    let table = [TIMES[0], TIMES[1], TIMES[2], TIMES[3], "retries"].map(|name| (name, FlagType::Text));
    let flags = Flags::parse(parts.file, &parts.flags, &table)?;
    let mode = split_blank(parts.arguments).into_iter().next();
    let Some(mode) = mode else {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("HEALTHCHECK")));
    };
    let rest = parts.arguments[mode.end..].trim();
    match mode.text.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() && parts.flags.is_empty() => Ok(Kind::Healthcheck(Healthcheck::None)),
        "NONE" => Err(parts.refuse(ParseErrorKind::HealthcheckNoneArguments)),
        "CMD" if rest.is_empty() => Err(parts.refuse(ParseErrorKind::HealthcheckNoCommand)),
        "CMD" => {
            let form = command_form(parts, rest)?;
            let command = CommandLine { form, span: parts.arguments_span() };
            let time = |name| flag_duration(parts, &flags, name);
            Ok(Kind::Healthcheck(Healthcheck::Command {
                command,
                interval: time(TIMES[0])?,
                timeout: time(TIMES[1])?,
                start_period: time(TIMES[2])?,
                start_interval: time(TIMES[3])?,
                retries: flag_retries(parts, &flags)?,
            }))
        }
        other => Err(parts.refuse(ParseErrorKind::HealthcheckType(other.to_owned()))),
    }
}

/// Shortest time between probes that Docker accepts: one millisecond, zero meaning "inherit".
const SHORTEST_HEALTH_TIME: i64 = 1_000_000;

fn flag_duration(parts: &Parts<'_>, flags: &Flags, name: &'static str) -> Result<Option<i64>, ParseError> {
    let Some(word) = flags.text(name) else { return Ok(None) };
    let refuse = |reason: String| ParseError::new(parts.file, word.span, invalid(name, &word.value, reason));
    let nanoseconds = parse_duration(&word.value).map_err(refuse)?;
    if nanoseconds != 0 && nanoseconds < SHORTEST_HEALTH_TIME {
        return Err(refuse("cannot be less than 1ms".to_owned()));
    }
    Ok(Some(nanoseconds))
}

fn flag_retries(parts: &Parts<'_>, flags: &Flags) -> Result<Option<i64>, ParseError> {
    let Some(word) = flags.text("retries") else { return Ok(None) };
    let refuse =
        |reason: &str| ParseError::new(parts.file, word.span, invalid("retries", &word.value, reason));
    match word.value.parse::<i32>() {
        Ok(retries) if retries >= 0 => Ok(Some(i64::from(retries))),
        Ok(_) => Err(refuse("cannot be negative")),
        Err(_) => Err(refuse("not a number")),
    }
}

pub fn maintainer(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    one_argument(parts, "MAINTAINER").map(Kind::Maintainer)
}

pub fn onbuild(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    let mut inner = Parts::split_at(parts.file, parts.directives, parts.line, parts.arguments_start);
    inner.heredocs.clone_from(&parts.heredocs);
    match inner.keyword.value.to_ascii_uppercase().as_str() {
        "" => return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("ONBUILD"))),
        "ONBUILD" => return Err(inner.refuse(ParseErrorKind::OnbuildOnbuild)),
        name @ ("FROM" | "MAINTAINER") => {
            return Err(inner.refuse(ParseErrorKind::OnbuildForbidden(name.to_owned())));
        }
        _ => {}
    }
    let kind = parse_kind(&inner)?;
    let mut expression = parts.arguments.to_owned();
    for heredoc in &parts.heredocs {
        expression.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    let trigger = Box::new(Instruction {
        keyword: inner.keyword.clone(),
        span: parts.line.span,
        text: parts.arguments.to_owned(),
        empty_continuation: None,
        kind,
    });
    Ok(Kind::Onbuild(Onbuild { expression, trigger }))
}

pub fn run(parts: &Parts<'_>) -> Parsed {
    let flags = Flags::parse(
        parts.file,
        &parts.flags,
        &[
            ("mount", FlagType::List),
            ("network", FlagType::Text),
            ("security", FlagType::Text),
            ("device", FlagType::List),
        ],
    )?;
    let mounts = flags.list("mount");
    for word in &mounts {
        // A value with variables can only be judged once they are expanded.
        if !word.value.contains('$') {
            mount::Mount::parse(&word.value).map_err(|reason| {
                ParseError::new(parts.file, word.span, ParseErrorKind::Mount(reason.to_string()))
            })?;
        }
    }
    let (network, security) = (flags.text("network"), flags.text("security"));
    one_of(parts, "network", &network, &["default", "none", "host"])?;
    one_of(parts, "security", &security, &["sandbox", "insecure"])?;
    let command = command_line(parts)?;
    if !parts.heredocs.is_empty() && matches!(command.form, CommandForm::Exec(_)) {
        return Err(parts.refuse(ParseErrorKind::HeredocAfterExecForm));
    }
    if command.form.is_empty() {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("RUN")));
    }
    let heredocs = parts.heredocs.clone();
    Ok(Kind::Run(Run { command, mounts, network, security, devices: flags.list("device"), heredocs }))
}

fn one_of(parts: &Parts<'_>, flag: &str, word: &Option<Word>, allowed: &[&str]) -> Result<(), ParseError> {
    match word {
        Some(word) if !allowed.contains(&word.value.as_str()) => {
            let reason = format!("must be one of {}", allowed.join(", "));
            Err(ParseError::new(parts.file, word.span, invalid(flag, &word.value, reason)))
        }
        _ => Ok(()),
    }
}

pub fn shell(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    match json_form(parts.arguments) {
        JsonForm::Strings(words) if words.is_empty() => {
            Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("SHELL")))
        }
        JsonForm::Strings(words) => Ok(Kind::Shell(words)),
        JsonForm::NotStrings => Err(parts.refuse(ParseErrorKind::JsonNotStrings)),
        JsonForm::NotJson => Err(parts.refuse(ParseErrorKind::JsonRequired { instruction: "SHELL" })),
    }
}

pub fn stopsignal(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    one_argument(parts, "STOPSIGNAL").map(Kind::Stopsignal)
}

pub fn user(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    one_argument(parts, "USER").map(Kind::User)
}

pub fn workdir(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    one_argument(parts, "WORKDIR").map(Kind::Workdir)
}

pub fn volume(parts: &Parts<'_>) -> Parsed {
    no_flags(parts)?;
    let words = words_or_json(parts)?;
    if words.is_empty() {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument("VOLUME")));
    }
    if words.iter().any(|word| word.value.trim().is_empty()) {
        return Err(parts.refuse(ParseErrorKind::BlankName("VOLUME")));
    }
    Ok(Kind::Volume(words))
}

fn no_flags(parts: &Parts<'_>) -> Result<(), ParseError> {
    Flags::parse(parts.file, &parts.flags, &[]).map(|_| ())
}

/// The whole rest of the line as one value.
fn one_argument(parts: &Parts<'_>, name: &'static str) -> Result<Word, ParseError> {
    if parts.arguments.is_empty() {
        return Err(parts.refuse(ParseErrorKind::ExactlyOneArgument(name)));
    }
    Ok(Spanned::new(parts.arguments.to_owned(), parts.arguments_span()))
}

fn command_line(parts: &Parts<'_>) -> Result<CommandLine, ParseError> {
    Ok(CommandLine { form: command_form(parts, parts.arguments)?, span: parts.arguments_span() })
}

fn command_form(parts: &Parts<'_>, text: &str) -> Result<CommandForm, ParseError> {
    match json_form(text) {
        JsonForm::Strings(arguments) => Ok(CommandForm::Exec(arguments)),
        JsonForm::NotStrings => Err(parts.refuse(ParseErrorKind::JsonNotStrings)),
        JsonForm::NotJson => Ok(CommandForm::Shell(text.to_owned())),
    }
}

fn key_values(parts: &Parts<'_>, name: &'static str) -> Result<KeyValues, ParseError> {
    let words = quoted_words(parts)?;
    let Some(first) = words.first() else {
        return Err(parts.refuse(ParseErrorKind::AtLeastOneArgument(name)));
    };
    if !first.text.contains('=') {
        let Some(at) = parts.arguments.find(char::is_whitespace) else {
            return Err(parts.refuse(ParseErrorKind::MustHaveTwo(name)));
        };
        let value = parts.arguments[at..].trim_start();
        let value_at = parts.arguments.len() - value.len();
        let pair = (
            Spanned::new(parts.arguments[..at].to_owned(), parts.span(0, at)),
            Spanned::new(value.to_owned(), parts.span(value_at, parts.arguments.len())),
        );
        return Ok(KeyValues { pairs: vec![pair], legacy: true });
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in &words {
        let (key, value) = split_pair(parts, word);
        let value = value.ok_or_else(|| parts.refuse(ParseErrorKind::NoEquals(word.text.clone())))?;
        if key.value.is_empty() {
            return Err(parts.refuse(ParseErrorKind::BlankName(name)));
        }
        pairs.push((key, value));
    }
    Ok(KeyValues { pairs, legacy: false })
}

/// `name=value` with both places.
fn split_pair(parts: &Parts<'_>, word: &RawWord) -> (Word, Option<Word>) {
    match word.text.split_once('=') {
        None => (Spanned::new(word.text.clone(), parts.span(word.start, word.end)), None),
        Some((key, value)) => {
            let key_end = word.start + key.len();
            (
                Spanned::new(key.to_owned(), parts.span(word.start, key_end)),
                Some(Spanned::new(value.to_owned(), parts.span(key_end + 1, word.end))),
            )
        }
    }
}

fn quoted_words(parts: &Parts<'_>) -> Result<Vec<RawWord>, ParseError> {
    split_quoted(parts.arguments, parts.directives.escape)
        .map_err(|word| parts.refuse(ParseErrorKind::UnterminatedQuote(word)))
}

fn blank_words(parts: &Parts<'_>) -> Vec<Word> {
    split_blank(parts.arguments)
        .into_iter()
        .map(|word| Spanned::new(word.text, parts.span(word.start, word.end)))
        .collect()
}

/// A JSON array of strings, else words at white space.
fn words_or_json(parts: &Parts<'_>) -> Result<Vec<Word>, ParseError> {
    match json_form(parts.arguments) {
        JsonForm::Strings(words) => {
            Ok(words.into_iter().map(|word| Spanned::new(word, parts.arguments_span())).collect())
        }
        JsonForm::NotStrings => Err(parts.refuse(ParseErrorKind::JsonNotStrings)),
        JsonForm::NotJson => Ok(blank_words(parts)),
    }
}
