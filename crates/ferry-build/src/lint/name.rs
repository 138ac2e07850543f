//! Rules about the spelling of keywords and stage names.

use super::Check;
use crate::dockerfile::ast::Kind;

/// Names that mean something else.
const RESERVED: [&str; 2] = ["scratch", "context"];

pub(super) fn check(check: &mut Check<'_>) {
    stage_names(check);
    keyword_casing(check);
    for instruction in check.instructions() {
        if let Some(span) = instruction.empty_continuation {
            check
                .report("NoEmptyContinuation", span, "Empty continuation line")
                .help("remove the empty line; later Docker versions refuse it");
        }
        if let Kind::Maintainer(name) = &instruction.kind {
            let text = format!("LABEL org.opencontainers.image.authors={:?}", name.value);
            check
                .report(
                    "MaintainerDeprecated",
                    instruction.span,
                    "Maintainer instruction is deprecated in favor of using label",
                )
                .help(text.clone())
                .edit(instruction.span, text);
        }
    }
}

fn stage_names(check: &mut Check<'_>) {
    let dockerfile = check.dockerfile;
    let mut seen: Vec<String> = Vec::new();
    for stage in &dockerfile.stages {
        let Some(name) = &stage.from.name else { continue };
        let lower = name.value.to_lowercase();
        if lower != name.value {
            check
                .report(
                    "StageNameCasing",
                    name.span,
                    format!("Stage name '{}' should be lowercase", name.value),
                )
                .edit(name.span, lower.clone());
        }
        if RESERVED.contains(&lower.as_str()) {
            check.report(
                "ReservedStageName",
                name.span,
                format!("Stage name should not use the same name as reserved stage \"{lower}\""),
            );
        }
        if seen.contains(&lower) {
            check.report(
                "DuplicateStageName",
                name.span,
                format!("Duplicate stage name \"{lower}\", stage names should be unique"),
            );
        }
        seen.push(lower);
        as_casing(check, stage);
    }
}

fn as_casing(check: &mut Check<'_>, stage: &crate::dockerfile::ast::Stage) {
    let Some(keyword) = &stage.from.as_keyword else { return };
    let from = &stage.head.keyword.value;
    let wanted = if is_upper(from) { "AS" } else { "as" };
    if keyword.value != wanted && (is_upper(from) || is_lower(from)) {
        check
            .report(
                "FromAsCasing",
                keyword.span,
                format!("'{}' and '{from}' keywords' casing do not match", keyword.value),
            )
            .edit(keyword.span, wanted);
    }
}

fn is_upper(word: &str) -> bool {
    !word.chars().any(char::is_lowercase)
}

fn is_lower(word: &str) -> bool {
    !word.chars().any(char::is_uppercase)
}

/// Keywords are all upper or all lower case; the majority says which.
fn keyword_casing(check: &mut Check<'_>) {
    let instructions = check.instructions();
    let lower = instructions.iter().filter(|instruction| is_lower(&instruction.keyword.value)).count();
    let upper = instructions.iter().filter(|instruction| is_upper(&instruction.keyword.value)).count();
    let want_lower = lower > upper;
    for instruction in instructions {
        let keyword = &instruction.keyword;
        let fits = if want_lower { is_lower(&keyword.value) } else { is_upper(&keyword.value) };
        if fits {
            continue;
        }
        let (case, wanted) = match want_lower {
            true => ("lowercase", keyword.value.to_lowercase()),
            false => ("uppercase", keyword.value.to_uppercase()),
        };
        check
            .report(
                "ConsistentInstructionCasing",
                keyword.span,
                format!("Command '{}' should match the case of the command majority ({case})", keyword.value),
            )
            .edit(keyword.span, wanted);
    }
}
