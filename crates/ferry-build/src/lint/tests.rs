//! Rules as a table: a Dockerfile, and the rules that it breaks.

use super::*;
use crate::dockerfile::parse;

fn findings(text: &str) -> Vec<Finding> {
    let file = SourceFile::new("Dockerfile", text.as_bytes());
    let dockerfile = parse(&file).expect(text);
    let ignore = Ignore::parse("secret.txt").expect("valid");
    lint(&file, &dockerfile, Some(&ignore), None)
}

fn rules(text: &str) -> Vec<&'static str> {
    findings(text).into_iter().filter_map(|finding| finding.diagnostic.rule).collect()
}

fn fixed(text: &str) -> String {
    let file = SourceFile::new("Dockerfile", text.as_bytes());
    fix(&file, &findings(text)).unwrap_or_else(|| text.to_owned())
}

#[test]
fn each_rule_is_found() {
    for (text, wanted) in [
        ("FROM a AS Build", "StageNameCasing"),
        ("FROM a as b", "FromAsCasing"),
        ("FROM a\nRUN x \\\n\n  y", "NoEmptyContinuation"),
        ("FROM a\nRun x\nRUN y", "ConsistentInstructionCasing"),
        ("FROM a AS b\nFROM a AS b", "DuplicateStageName"),
        ("FROM a AS context", "ReservedStageName"),
        ("FROM a\nCMD run me", "JSONArgsRecommended"),
        ("FROM a\nMAINTAINER me", "MaintainerDeprecated"),
        ("ARG VERSION=1\nFROM a:$VERSON", "UndefinedArgInFrom"),
        ("FROM a\nWORKDIR app", "WorkdirRelativePath"),
        ("FROM a\nENV NAME=x\nLABEL n=$NMAE", "UndefinedVar"),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", "MultipleInstructionsDisallowed"),
        ("FROM a\nENV A b", "LegacyKeyValueFormat"),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform"),
        ("FROM a\nARG API_TOKEN", "SecretsUsedInArgOrEnv"),
        ("ARG V\nFROM a:${V}", "InvalidDefaultArgInFrom"),
        ("FROM --platform=linux/arm64 a", "FromPlatformFlagConstDisallowed"),
        ("FROM a\nCOPY secret.txt /", "CopyIgnoredFile"),
        ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing"),
        ("FROM a\nEXPOSE 80:80", "ExposeInvalidFormat"),
        ("FROM a\nCMD ['python', 'x']", "SingleQuotedJson"),
        ("FROM a\nENTRYPOINT \\[\"fortune\"\\]", "EscapedMarkdown"),
        (
            "FROM a\nWORKDIR /usr/src/dm\nCOPY ./req.txt /usr/src/req.txt\nRUN pip install -r usr/src/req.txt",
            "RelativePathAfterWorkdir",
        ),
        ("FROM a\nRUN apt install fortune -y", "AptInstallWithoutUpdate"),
    ] {
        assert!(rules(text).contains(&wanted), "{text}: {:?}", rules(text));
    }
}

#[test]
fn good_files_are_left_alone() {
    let text = "ARG V=1\nFROM a:${V} AS build\nWORKDIR /app\nENV A=b\nRUN apt-get update && apt-get install -y x\n\
                COPY a.txt ./\nEXPOSE 80/tcp\nCMD [\"x\", \"y\"]\n";
    assert_eq!(rules(text), [] as [&str; 0]);
}

#[test]
fn rules_can_be_silenced() {
    assert_eq!(rules("# check=skip=JSONArgsRecommended\nFROM a\nCMD x"), [] as [&str; 0]);
    assert_eq!(rules("# check=skip=all\nfrom a\nCMD x"), [] as [&str; 0]);
    let experimental = "# check=experimental=InvalidDefinitionDescription\n\n# other words\nFROM a AS b";
    assert_eq!(rules(experimental), ["InvalidDefinitionDescription"]);
}

#[test]
fn safe_findings_are_mended() {
    for (text, wanted) in [
        ("FROM a\nCMD ['python', 'x']\n", "FROM a\nCMD [\"python\", \"x\"]\n"),
        ("FROM a\nENTRYPOINT \\[\"fortune\"\\]\n", "FROM a\nENTRYPOINT [\"fortune\"]\n"),
        ("FROM a\nENV PYTHONUNBUFFERED 1\n", "FROM a\nENV PYTHONUNBUFFERED=1\n"),
        ("FROM a as Build\n", "FROM a AS build\n"),
        (
            "FROM a\nWORKDIR /usr/src/dm\nRUN pip install -r usr/src/req.txt\n",
            "FROM a\nWORKDIR /usr/src/dm\nRUN pip install -r /usr/src/req.txt\n",
        ),
    ] {
        assert_eq!(fixed(text), wanted);
        assert!(findings(&fixed(text)).iter().all(|finding| finding.edit.is_none()), "{text}");
    }
}

#[test]
fn bases_of_another_platform() {
    let arm = Platform::parse("linux/arm64").expect("valid");
    let found = base_platform("a", "linux/amd64", &arm, Span::new(0, 6)).expect("another platform");
    assert_eq!(found.diagnostic.rule, Some("InvalidBaseImagePlatform"));
    assert!(found.diagnostic.message.contains("\"linux/arm64\", expected \"linux/amd64\""), "{found:?}");
    assert_eq!(base_platform("a", "linux/arm64", &arm, Span::new(0, 6)), None);
    assert_eq!(
        base_platform("a", "linux/amd64", &Platform::parse("linux/amd64").expect("valid"), Span::new(0, 6)),
        None
    );
    let file = SourceFile::new("Dockerfile", b"FROM a\n");
    let dockerfile = parse(&file).expect("valid");
    let heard = |text: &str| {
        let options = CheckOptions::parse(text).expect("valid");
        of_build(&file, &dockerfile, None, &options, std::slice::from_ref(&found)).len()
    };
    assert_eq!((heard(""), heard("skip=InvalidBaseImagePlatform"), heard("skip=all")), (1, 0, 0));
}

#[test]
fn rules_have_pages() {
    let page = |rule| page(rule).unwrap_or_default();
    for (rule, words) in [
        ("StageNameCasing", "stage-name-casing"),
        ("JSONArgsRecommended", "json-args-recommended"),
        ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
    ] {
        assert_eq!(page(rule), format!("https://docs.docker.com/go/dockerfile/rule/{words}/"));
    }
    assert_eq!(page("SingleQuotedJson"), "");
}
