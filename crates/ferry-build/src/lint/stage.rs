//! Rules about FROM and about what stands how often in a stage.

use std::collections::BTreeSet;

use super::Check;
use crate::dockerfile::ast::{Kind, Stage};
use crate::dockerfile::error::nearest;
use crate::dockerfile::expand::Expander;
use crate::lower::LowerOptions;

pub(super) fn check(check: &mut Check<'_>) {
    let dockerfile = check.dockerfile;
    let declared = global_names(check);
    for stage in &dockerfile.stages {
        platform(check, stage);
        base_variables(check, stage, &declared);
        repeated(check, stage);
    }
    descriptions(check);
}

fn global_names(check: &Check<'_>) -> BTreeSet<String> {
    let definitions = check.dockerfile.global_args.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(definitions) => Some(definitions),
        _ => None,
    });
    let mut names: BTreeSet<String> =
        definitions.flatten().map(|definition| definition.name.value.clone()).collect();
    for prefix in ["TARGET", "BUILD"] {
        names
            .extend(["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"].map(|name| format!("{prefix}{name}")));
    }
    names.insert("TARGETSTAGE".to_owned());
    names
}

fn platform(check: &mut Check<'_>, stage: &Stage) {
    let Some(platform) = &stage.from.platform else { return };
    if matches!(platform.value.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        check
            .report("RedundantTargetPlatform", platform.span, "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior")
            .edit(platform.span, "");
    } else if !platform.value.contains('$') {
        check
            .report(
                "FromPlatformFlagConstDisallowed",
                platform.span,
                format!("FROM --platform flag should not use constant value \"{}\"", platform.value),
            )
            .help("give --platform to the build, or use $BUILDPLATFORM");
    }
}

/// Variables in a base's name: not declared, or without a value that gives a valid name.
fn base_variables(check: &mut Check<'_>, stage: &Stage, declared: &BTreeSet<String>) {
    let base = &stage.from.base;
    if !base.value.contains('$') {
        return;
    }
    let expander = Expander::new(check.dockerfile.directives.escape);
    let nothing = |_: &str| None;
    let Ok(expanded) = expander.expand(&base.value, &nothing) else { return };
    for name in &expanded.unset {
        if !declared.contains(name) {
            let hint = nearest(name, declared.iter().map(String::as_str));
            let finding = check.report(
                "UndefinedArgInFrom",
                base.span,
                format!("FROM argument '{name}' is not declared"),
            );
            if let Some(hint) = hint {
                finding.help(format!("did you mean {hint}?"));
            }
        }
    }
    default_value(check, stage);
}

/// Without build arguments the name must still be one.
fn default_value(check: &mut Check<'_>, stage: &Stage) {
    let globals = crate::lower::global_values(check.dockerfile, &LowerOptions::default());
    let Ok(globals) = globals else { return };
    let expander = Expander::new(check.dockerfile.directives.escape);
    let lookup = crate::lower::MapVariables(&globals);
    let Ok(expanded) = expander.expand(&stage.from.base.value, &lookup) else { return };
    let name = expanded.text;
    let valid = name == "scratch" || ferry_oci::Reference::parse_normalized(&name).is_ok();
    if !valid {
        check
            .report(
                "InvalidDefaultArgInFrom",
                stage.from.base.span,
                format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.from.base.value
                ),
            )
            .help("give the ARG a default, or write ${NAME:-default}");
    }
}

/// CMD, ENTRYPOINT and HEALTHCHECK count once; earlier ones do nothing.
fn repeated(check: &mut Check<'_>, stage: &Stage) {
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let found: Vec<_> =
            stage.instructions.iter().filter(|instruction| instruction.kind.name() == name).collect();
        for instruction in found.iter().rev().skip(1).rev() {
            check
                .report("MultipleInstructionsDisallowed", instruction.span, format!("Multiple {name} instructions should not be used in the same stage because only the last one will be used"))
                .help("remove all but the last");
        }
    }
}

/// A comment right above a stage or ARG that begins otherwise than with its name is no description.
fn descriptions(check: &mut Check<'_>) {
    let named = check
        .dockerfile
        .stages
        .iter()
        .filter_map(|stage| Some((stage.from.name.as_ref()?.clone(), stage.head.span)));
    let found: Vec<_> = named.collect();
    for (name, span) in found {
        let before = &check.file.text()[..span.start];
        let Some(line) = before.trim_end_matches('\n').rsplit('\n').next() else { continue };
        let Some(comment) = line.trim().strip_prefix('#') else { continue };
        let adjacent = before.ends_with('\n') && !before.ends_with("\n\n");
        if adjacent && !comment.trim().is_empty() && !comment.trim().starts_with(&name.value) {
            check.report(
                "InvalidDefinitionDescription",
                span,
                format!("Comment for build stage should follow the format: `# {} <description>`", name.value),
            );
        }
    }
}
