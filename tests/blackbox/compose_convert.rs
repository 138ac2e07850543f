//! Projects in the form of other tools, and Compose files of containers that have none.

use std::fs;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_convert::by_transformers", by_transformers),
    ("compose_convert::transformers_are_listed_and_made", transformers_are_listed_and_made),
    ("compose_convert::generated_from_containers", generated_from_containers),
];

/// A project, and a transformer that shows what it was given.
fn with_transformer() -> Project {
    let project = Project::new(
        "name: bridged\nservices: {web: {image: exposing, ports: ['8080:80'], secrets: [word]}}\n\
         secrets: {word: {file: word.txt}}\n",
    );
    let folder = project.engine.directory().join("app");
    fs::write(folder.join("word.txt"), "open sesame").expect("a file");
    let context = project.engine.directory().join("transformer");
    fs::create_dir(&context).expect("a folder");
    fs::create_dir(context.join("templates")).expect("a folder");
    fs::write(context.join("templates/one.tmpl"), "one\n").expect("a file");
    fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nLABEL com.docker.compose.bridge=transformation\nCOPY templates /templates\n\
         CMD cp /in/compose.yaml /out/model.yaml && ls /templates > /out/templates && id -u > /out/user\n",
    )
    .expect("a file");
    let context = context.display().to_string();
    project.engine.ferry(["build", "-q", "-t", "transformer", &context]).exits(0);
    fs::write(folder.join("Dockerfile"), "FROM busybox\nEXPOSE 9000/tcp\n").expect("a file");
    let folder = folder.display().to_string();
    project.engine.ferry(["build", "-q", "-t", "exposing", &folder]).exits(0);
    project
}

fn by_transformers() {
    let project = with_transformer();
    let out = project.engine.directory().join("out");
    let name = out.display().to_string();
    project.compose(&["bridge", "convert", "-t", "transformer", "-o", &name]).exits(0);
    let read = |file: &str| fs::read_to_string(out.join(file)).expect("it was written");
    let model = read("model.yaml");
    for wanted in ["image: exposing", "- \"80\"", "- \"9000\"", "content: open sesame"] {
        assert!(model.contains(wanted), "{wanted} in {model}");
    }
    assert_eq!(read("templates"), "one.tmpl\n");
    assert_eq!(read("user").trim(), rustix::process::getuid().as_raw().to_string());
    // Nothing is deleted without a word.
    project
        .compose(&["bridge", "convert", "-t", "transformer", "-o", &name])
        .exits(1)
        .complains("was not confirmed")
        .complains("-o FOLDER");
    assert_eq!(read("templates"), "one.tmpl\n");
    let own = project.engine.directory().join("own");
    fs::create_dir(&own).expect("a folder");
    fs::write(own.join("other.tmpl"), "").expect("a file");
    let (own, second) = (own.display().to_string(), format!("{name}/second"));
    let words = ["bridge", "convert", "-t", "transformer", "-o", &second, "--templates", &own];
    project.compose(&words).exits(0);
    assert_eq!(read("second/templates"), "other.tmpl\n");
    project
        .compose(&["bridge", "convert", "-t", "127.0.0.1:1/none", "-o", &format!("{name}/third")])
        .exits(1)
        .complains("127.0.0.1:1")
        .complains("'-t IMAGE' takes another");
    project.compose(&["bridge", "nonsense"]).exits(1).complains("bridge convert");
    project.compose(&["bridge", "convert", "--help"]).exits(0).says("--transformation");
}

fn transformers_are_listed_and_made() {
    let project = with_transformer();
    let listed = ["bridge", "transformations", "list"];
    project.compose(&listed).exits(0).says("transformer");
    project.compose(&[&listed[..], &["-q"]].concat()).prints("transformer:latest");
    project.compose(&[&listed[..], &["--format", "json"]].concat()).says("\"Repository\":\"transformer\"");
    let made = project.engine.directory().join("mine");
    let name = made.display().to_string();
    let create = ["bridge", "transformations", "create", "--from", "transformer", &name];
    project.compose(&create).exits(0).says("Transformer created in");
    assert_eq!(fs::read_to_string(made.join("templates/one.tmpl")).expect("it was copied"), "one\n");
    let dockerfile = fs::read_to_string(made.join("Dockerfile")).expect("it was written");
    assert!(dockerfile.contains("LABEL com.docker.compose.bridge=transformation"), "{dockerfile}");
    project.compose(&create).exits(1).complains("already exists");
    project.engine.ferry(["ps", "-aq"]).prints("");
}

fn generated_from_containers() {
    let project = Project::new("services: {}\n");
    let engine = &project.engine;
    engine.ferry(["network", "create", "side"]).exits(0);
    let words = "run -d --name byhand --init -e WORD=a=b -l tier=web -p 127.0.0.1::80 -v data:/data -v /etc/hostname:/h:ro \
                 --network side --network-alias front --restart on-failure:2 --health-cmd true --health-interval 90s busybox sleep 1000";
    engine.ferry(words.split_whitespace()).exits(0);
    engine.ferry(["create", "--name", "plain", "busybox"]).exits(0);
    let text =
        engine.ferry(["compose", "alpha", "generate", "--name", "again", "byhand", "plain"]).ok().to_owned();
    for wanted in [
        "name: again",
        "WORD: a=b",
        "tier: web",
        "restart: on-failure:2",
        "interval: 90s",
        "target: 80",
        "- front",
        "source: data",
        "read_only: true",
        "- sleep",
        "network_mode: bridge",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let json = engine.ferry(["compose", "generate", "--format", "json", "byhand"]).ok().to_owned();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["services"]["byhand"]["environment"]["WORD"], "a=b");
    // The result is a project that comes up.
    engine.ferry(["rm", "-f", "byhand", "plain"]).exits(0);
    project.write(&text);
    project.compose(&["up", "-d"]).exits(0);
    engine.ferry(["exec", "again-byhand-1", "sh", "-c", "echo $WORD"]).prints("a=b");
    engine.wait_for_status("again-plain-1", "exited");
    project.compose(&["down", "-v"]).exits(0);
    engine
        .ferry(["compose", "generate", "nobody"])
        .exits(1)
        .complains("no container(s) found with the following name(s): nobody");
    engine.ferry(["compose", "generate"]).exits(1);
}
