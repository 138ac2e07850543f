//! Rules about variables, ports, paths and other values.

use super::Check;
use crate::dockerfile::ast::{Instruction, KeyValues, Kind, TransferSource, Word};
use crate::dockerfile::error::nearest;
use crate::dockerfile::expand::Expander;

/// Parts of names that say "secret" ..
const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// .. unless these say "public".
const PUBLIC_WORDS: [&str; 2] = ["public", "pubkey"];

/// Variables that bases usually set.
const USUAL: [&str; 6] = ["PATH", "HOME", "HOSTNAME", "LANG", "TERM", "PWD"];

pub(super) fn check(check: &mut Check<'_>) {
    let dockerfile = check.dockerfile;
    for stage in &dockerfile.stages {
        let mut known: Vec<String> = USUAL.map(str::to_owned).to_vec();
        let mut working_directory_set = false;
        for instruction in &stage.instructions {
            variables(check, instruction, &known);
            match &instruction.kind {
                Kind::Env(values) => {
                    secrets(check, values.pairs.iter().map(|(name, _)| name), "ENV");
                    legacy(check, instruction, values);
                    known.extend(values.pairs.iter().map(|(name, _)| name.value.clone()));
                }
                Kind::Label(values) => legacy(check, instruction, values),
                Kind::Arg(definitions) => {
                    secrets(check, definitions.iter().map(|definition| &definition.name), "ARG");
                    known.extend(definitions.iter().map(|definition| definition.name.value.clone()));
                }
                Kind::Expose(ports) => ports.iter().for_each(|port| expose(check, port)),
                Kind::Workdir(path) => {
                    working_directory(check, path, working_directory_set);
                    working_directory_set = true;
                }
                Kind::Copy(copy) if copy.from.is_none() => ignored(check, "COPY", &copy.sources),
                Kind::Add(add) => ignored(check, "ADD", &add.sources),
                _ => {}
            }
        }
    }
}

/// A variable that nothing sets, when a similar one is set.
fn variables(check: &mut Check<'_>, instruction: &Instruction, known: &[String]) {
    let words: Vec<&Word> = match &instruction.kind {
        Kind::Env(values) | Kind::Label(values) => values.pairs.iter().map(|(_, value)| value).collect(),
        Kind::User(word) | Kind::Workdir(word) | Kind::Stopsignal(word) => vec![word],
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::Copy(transfer) | Kind::Add(transfer) => {
            let paths = transfer.sources.iter().filter_map(|source| match source {
                TransferSource::Path(word) => Some(word),
                TransferSource::Inline(_) => None,
            });
            paths.chain([&transfer.destination]).collect()
        }
        _ => return,
    };
    let expander = Expander::new(check.dockerfile.directives.escape);
    let nothing = |_: &str| None;
    for word in words {
        let Ok(expanded) = expander.expand(&word.value, &nothing) else { continue };
        for name in &expanded.unset {
            // What the base sets is not known here, so only a near miss is told.
            let guess = nearest(name, known.iter().map(String::as_str));
            if let (false, Some(guess)) = (known.contains(name), guess) {
                check
                    .report("UndefinedVar", word.span, format!("Usage of undefined variable '${name}'"))
                    .help(format!("did you mean ${guess}?"));
            }
        }
    }
}

fn secrets<'a>(check: &mut Check<'_>, names: impl Iterator<Item = &'a Word>, instruction: &str) {
    for name in names {
        let lower = name.value.to_lowercase();
        let words: Vec<&str> = lower.split(['_', '-']).collect();
        let secret = words.iter().any(|word| SECRET_WORDS.contains(word));
        let public = words.iter().any(|word| PUBLIC_WORDS.contains(word));
        if secret && !public {
            check
                .report(
                    "SecretsUsedInArgOrEnv",
                    name.span,
                    format!(
                        "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{}\")",
                        name.value
                    ),
                )
                .help("use RUN --mount=type=secret");
        }
    }
}

/// `ENV name value`
fn legacy(check: &mut Check<'_>, instruction: &Instruction, values: &KeyValues) {
    if !values.legacy {
        return;
    }
    let (name, value) = &values.pairs[0];
    let keyword = instruction.kind.name();
    let plain = !value.value.contains([' ', '\t', '"', '\'', '\\']);
    let quoted =
        if plain { value.value.clone() } else { format!("\"{}\"", value.value.replace('"', "\\\"")) };
    let single_line = check.file.slice(instruction.span).lines().count() == 1;
    let finding = check.report(
        "LegacyKeyValueFormat",
        instruction.span,
        format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"),
    );
    finding.help(format!("{} {}={quoted}", instruction.keyword.value, name.value));
    if single_line && !value.value.contains('\\') {
        finding.edit(name.span.join(value.span), format!("{}={quoted}", name.value));
    }
}

fn expose(check: &mut Check<'_>, port: &Word) {
    if port.value.contains('$') {
        return;
    }
    if port.value.contains(':') {
        check
            .report(
                "ExposeInvalidFormat",
                port.span,
                format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
                    port.value
                ),
            )
            .help("publish ports with run -p");
    }
    if let Some((number, protocol)) = port.value.split_once('/')
        && protocol.chars().any(char::is_uppercase)
    {
        let wanted = format!("{number}/{}", protocol.to_lowercase());
        check
            .report(
                "ExposeProtoCasing",
                port.span,
                format!("Defined protocol '{}' in EXPOSE instruction should be lowercase", port.value),
            )
            .edit(port.span, wanted);
    }
}

fn working_directory(check: &mut Check<'_>, path: &Word, set_before: bool) {
    let relative = !path.value.starts_with(['/', '$', '"', '\'']);
    if relative && !set_before {
        check
            .report(
                "WorkdirRelativePath",
                path.span,
                format!(
                    "Relative workdir \"{}\" can have unexpected results if the base image changes",
                    path.value
                ),
            )
            .help(format!("WORKDIR /{}", path.value));
    }
}

fn ignored(check: &mut Check<'_>, name: &str, sources: &[TransferSource]) {
    let Some(ignore) = check.ignore else { return };
    for source in sources {
        let TransferSource::Path(word) = source else { continue };
        if word.value.contains(['$', '*', '?', '[']) || word.value.contains("://") {
            continue;
        }
        let path = crate::path::clean(&word.value);
        let path = path.trim_start_matches('/');
        if !path.is_empty() && ignore.is_ignored(path) {
            check.report(
                "CopyIgnoredFile",
                word.span,
                format!("Attempting to {name} file \"{}\" that is excluded by .dockerignore", word.value),
            );
        }
    }
}
