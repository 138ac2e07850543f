//! Lowering as tables: a Dockerfile in, steps, configuration and history out.

use std::collections::{BTreeMap, BTreeSet};

use ferry_oci::Digest;

use super::*;
use crate::dockerfile::parse;
use crate::llb::ops::{Action, Kind};

fn base(env: &[&str]) -> ResolvedImage {
    let mut config =
        ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.config.env = env.iter().map(|entry| (*entry).to_owned()).collect();
    config.config.cmd = Some(vec!["sh".into()]);
    ResolvedImage { id: Digest::sha256_of(b"base"), config }
}

fn lower_with(text: &str, options: &LowerOptions, image: &ResolvedImage) -> Result<Lowered, String> {
    let file = SourceFile::new("Dockerfile", text.as_bytes());
    let dockerfile = parse(&file).map_err(|error| error.to_string())?;
    let mut images = ImageMap::new();
    for _ in 0..4 {
        match lower(&file, &dockerfile, options, &images).map_err(|error| error.to_string())? {
            Lowering::Needs(requests) => {
                images.extend(requests.into_iter().map(|request| (request, image.clone())))
            }
            Lowering::Done(lowered) => return Ok(*lowered),
        }
    }
    Err("needs images without end".to_owned())
}

fn lowered(text: &str) -> Lowered {
    lower_with(text, &LowerOptions::default(), &base(&["PATH=/bin", "A=base"])).expect(text)
}

fn refusal(text: &str) -> String {
    lower_with(text, &LowerOptions::default(), &base(&[])).expect_err(text)
}

fn build_args(pairs: &[(&str, &str)]) -> LowerOptions {
    let build_args =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    LowerOptions { build_args, ..LowerOptions::default() }
}

fn history(lowered: &Lowered) -> Vec<&str> {
    lowered.history.iter().map(|line| line.created_by.as_str()).collect()
}

/// The command of the last RUN.
fn exec(lowered: &Lowered) -> crate::llb::ops::ExecOp {
    let vertices: Vec<_> = lowered.graph.iter().collect();
    let found = vertices.iter().rev().find_map(|(_, vertex)| match vertex.kind() {
        Kind::Exec(exec) => Some(exec.clone()),
        _ => None,
    });
    found.expect("a RUN")
}

#[test]
fn environment_and_arguments() {
    let lowered = lowered("ARG G=1\nFROM a\nARG G\nARG X=x$A\nENV A=new B=$A$X\nRUN make");
    let meta = exec(&lowered).meta.expect("a process");
    assert_eq!(meta.env, ["PATH=/bin", "A=new", "B=basexbase", "G=1", "X=xbase"]);
    assert_eq!(meta.args, ["/bin/sh", "-c", "make"]);
    assert_eq!(
        history(&lowered),
        ["ARG G=1", "ARG X=xbase", "ENV A=new B=basexbase", "RUN |2 G=1 X=xbase /bin/sh -c make # buildkit"]
    );
    assert_eq!(lowered.config.config.env, ["PATH=/bin", "A=new", "B=basexbase"]);
}

#[test]
fn build_arguments_override_defaults_and_env_overrides_both() {
    let options = build_args(&[("V", "given"), ("UNUSED", "1"), ("HTTP_PROXY", "p")]);
    let lowered = lower_with("FROM a\nARG V=default\nRUN x\n", &options, &base(&[])).expect("valid");
    assert!(exec(&lowered).meta.expect("a process").env.contains(&"V=given".to_owned()));
    assert_eq!(exec(&lowered).meta.expect("a process").proxy_env.expect("set").http_proxy, "p");
    assert_eq!(lowered.unused_args, ["UNUSED"]);
    let lowered = lower_with("FROM a\nENV V=env\nARG V=x\nRUN x\n", &options, &base(&[])).expect("valid");
    assert!(exec(&lowered).meta.expect("a process").env.contains(&"V=env".to_owned()));
}

#[test]
fn commands_and_entrypoints() {
    let config = |text: &str| lowered(text).config.config;
    assert_eq!(config("FROM a").cmd, Some(vec!["sh".into()]));
    assert_eq!(config("FROM a\nENTRYPOINT [\"x\"]").cmd, None);
    assert_eq!(config("FROM a\nCMD y\nENTRYPOINT [\"x\"]").cmd.expect("kept"), ["/bin/sh", "-c", "y"]);
    assert_eq!(
        config("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD y").cmd.expect("set"),
        ["/bin/bash", "-c", "y"]
    );
    assert_eq!(config("FROM a\nENTRYPOINT x").entrypoint.expect("set"), ["/bin/sh", "-c", "x"]);
}

#[test]
fn metadata_of_all_kinds() {
    let lowered = lowered(
        "FROM a\nLABEL a=b \"c d\"=e\nEXPOSE 80 53/udp\nUSER u:g\nVOLUME /data /x\nSTOPSIGNAL SIGINT\n\
         HEALTHCHECK --interval=5s CMD true\nONBUILD RUN x\nMAINTAINER me\nWORKDIR /app\nWORKDIR sub",
    );
    let config = &lowered.config.config;
    assert_eq!(config.labels.as_ref().expect("labels")["c d"], "e");
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(config.user, "u:g");
    assert_eq!(config.volumes.len(), 2);
    assert_eq!(config.working_dir, "/app/sub");
    assert_eq!(config.on_build.as_ref().expect("a trigger"), &["RUN x"]);
    assert_eq!(lowered.config.author.as_deref(), Some("me"));
    assert!(
        history(&lowered)
            .contains(&"HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x00'}")
    );
}

#[test]
fn only_needed_stages_are_built() {
    let text = "FROM a AS one\nRUN 1\nFROM a AS two\nRUN 2\nFROM a\nCOPY --from=one /x /y\n";
    let built = lowered(text);
    let names: Vec<_> = built.graph.iter().map(|(_, vertex)| vertex.info.name.clone()).collect();
    assert!(names.iter().any(|name| name.contains("RUN 1")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("RUN 2")), "{names:?}");
    assert!(names.contains(&"[stage-2 2/2] COPY --from=one /x /y".to_owned()), "{names:?}");
    let options = LowerOptions { target: Some("TWO".into()), ..LowerOptions::default() };
    let two = lower_with(text, &options, &base(&[])).expect("valid");
    assert_eq!(history(&two), ["RUN /bin/sh -c 2 # buildkit"]);
}

#[test]
fn stages_inherit_arguments_and_environment() {
    let lowered = lowered("FROM a AS b\nARG X=1\nENV Y=2\nFROM b\nRUN x");
    let env = exec(&lowered).meta.expect("a process").env;
    assert!(env.contains(&"X=1".to_owned()) && env.contains(&"Y=2".to_owned()));
}

#[test]
fn copies() {
    let lowered = lowered("FROM a\nWORKDIR /w\nCOPY --chown=1:2 --chmod=0644 ../a b/ ./\n");
    let result = lowered.graph.vertex(lowered.result.expect("a tree"));
    let Kind::File(file) = result.kind() else { panic!("a file operation") };
    assert_eq!(file.actions.len(), 2);
    let Some(Action::Copy(copy)) = &file.actions[0].action else { panic!("a copy") };
    assert_eq!((copy.src.as_str(), copy.dest.as_str(), copy.mode_text.as_str()), ("/a", "/w/", "0644"));
    assert_eq!((file.actions[0].input, file.actions[0].secondary_input, file.actions[0].output), (0, 1, -1));
    assert_eq!((file.actions[1].input, file.actions[1].output), (2, 0));
}

#[test]
fn triggers_of_the_base_image_run_first() {
    let mut image = base(&[]);
    image.config.config.on_build = Some(vec!["RUN trigger".into(), "ENV T=1".into()]);
    let lowered = lower_with("FROM a\nRUN own", &LowerOptions::default(), &image).expect("valid");
    assert_eq!(
        history(&lowered),
        ["RUN /bin/sh -c trigger # buildkit", "ENV T=1", "RUN /bin/sh -c own # buildkit"]
    );
    assert_eq!(lowered.config.config.on_build, None);
}

#[test]
fn heredocs() {
    let shell = exec(&lowered("FROM a\nRUN <<EOF\necho 1\nEOF")).meta.expect("a process").args;
    assert_eq!(shell, ["/bin/sh", "-c", "echo 1\n"]);
    let piped = exec(&lowered("FROM a\nRUN cat <<EOF > /x\n$y\nEOF")).meta.expect("a process").args;
    assert_eq!(piped, ["/bin/sh", "-c", "cat <<EOF > /x\n$y\nEOF"]);
    let script = exec(&lowered("FROM a\nRUN <<EOF\n#!/usr/bin/python\nprint(1)\nEOF"));
    assert_eq!(script.meta.expect("a process").args, ["/dev/pipes/EOF"]);
    assert_eq!(script.mounts[1].dest, "/dev/pipes");
}

#[test]
fn the_default_path_is_added_to_an_empty_image() {
    let lowered = lowered("FROM scratch\nCOPY a /\n");
    assert!(lowered.config.config.env[0].starts_with("PATH=/usr/local/sbin"));
    assert_eq!(lowered.config.os, "linux");
}

#[test]
fn unset_variables_are_noted() {
    let lowered = lowered("FROM a\nARG declared\nENV X=$gone$declared\n");
    assert_eq!(lowered.unset.len(), 1);
    assert_eq!(lowered.unset[0].name, "gone");
}

#[test]
fn refusals() {
    for (text, wanted) in [
        ("FROM ${X}", "should not be blank"),
        ("FROM a\nCOPY --from=5 a b", "not defined before"),
        ("FROM a AS x\nCOPY --from=x a b", "names the stage it stands in"),
        ("FROM a\nCOPY a b c", "must be a directory and end with a /"),
        ("FROM a\nCOPY --chmod=rwx a b", "neither octal nor symbolic"),
        ("FROM a\nRUN --network=host x", "needs --allow network.host"),
        ("FROM a\nRUN --security=insecure x", "needs --allow security.insecure"),
        ("FROM a\nEXPOSE 80/foo", "invalid proto"),
        ("FROM a\nSTOPSIGNAL FOO", "invalid stop signal"),
        ("FROM --platform=x/y/z/w a", "invalid platform"),
        ("FROM a\nENV x=\"${y:?must be set}\"", "must be set"),
        ("FROM a\nRUN --mount=from=$x,target=/y z", "define alias stage instead"),
        ("FROM a:::b", "invalid image name"),
    ] {
        assert!(refusal(text).contains(wanted), "{text}: {}", refusal(text));
    }
    let options = LowerOptions { target: Some("finl".into()), ..LowerOptions::default() };
    let message = lower_with("FROM a AS final", &options, &base(&[])).expect_err("no such stage");
    assert!(message.contains("did you mean final"), "{message}");
}

#[test]
fn no_cache_of_single_stages() {
    let no_cache = NoCache::Stages(BTreeSet::from(["one".to_owned()]));
    let options = LowerOptions { no_cache, ..LowerOptions::default() };
    let lowered = lower_with("FROM a AS one\nRUN 1\nFROM one\nRUN 2", &options, &base(&[])).expect("valid");
    let ignored: BTreeMap<_, _> = lowered
        .graph
        .iter()
        .map(|(_, vertex)| (vertex.info.name.clone(), vertex.info.ignore_cache))
        .collect();
    assert!(ignored["[one 2/2] RUN 1"]);
    assert!(!ignored["[stage-1 2/2] RUN 2"]);
}
