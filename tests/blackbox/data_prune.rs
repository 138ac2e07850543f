//! Every prune with every filter, and what each asks before.

use std::fs;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::prunes_obey_their_filters", prunes_obey_their_filters),
    ("data::image_prunes_obey_their_filters", image_prunes_obey_their_filters),
    ("data::build_cache_prunes_obey_their_filters", build_cache_prunes_obey_their_filters),
    ("data::prunes_ask_first", prunes_ask_first),
];

/// Containers, networks and volumes named `aa` (label keep=yes), `bb` (label drop) and `cc` (none).
fn stock(engine: &Engine) {
    for (name, labels) in
        [("aa", vec!["--label", "keep=yes"]), ("bb", vec!["--label", "drop"]), ("cc", vec![])]
    {
        let with = |words: &[&str], rest: &[&str]| {
            engine.ferry(words.iter().chain(&labels).chain(rest)).exits(0);
        };
        with(&["create", "--name", name], &["busybox", "true"]);
        with(&["volume", "create"], &[&format!("vol-{name}")]);
        with(&["network", "create"], &[&format!("net-{name}")]);
    }
}

fn left(engine: &Engine) -> [String; 3] {
    let list = |words: &[&str]| {
        let mut names: Vec<String> = engine.ferry(words).ok().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    [
        list(&["ps", "-a", "--format", "{{.Names}}"]),
        list(&["volume", "ls", "-q"]),
        list(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]),
    ]
}

fn prunes_obey_their_filters() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        stock(&engine);
        let prune = |filter: &str| {
            for kind in ["container", "network"] {
                engine.client(client, [kind, "prune", "-f", "--filter", filter]).exits(0);
            }
            if !filter.starts_with("until") {
                engine.client(client, ["volume", "prune", "-af", "--filter", filter]).exits(0);
            }
            left(&engine)
        };
        let all = ["aa bb cc", "vol-aa vol-bb vol-cc", "net-aa net-bb net-cc"];
        assert_eq!(prune("until=24h"), all, "{client}: they are younger");
        assert_eq!(prune("label=keep=no"), all, "{client}");
        assert_eq!(prune("label=drop"), ["aa cc", "vol-aa vol-cc", "net-aa net-cc"], "{client}");
        assert_eq!(prune("label!=keep=yes"), ["aa", "vol-aa", "net-aa"], "{client}");
        // Without -a a volume that somebody named stays, and all=1 is the same as -a.
        engine.client(client, ["volume", "prune", "-f", "--filter", "label=keep"]).exits(0);
        assert_eq!(left(&engine)[1], "vol-aa");
        engine.client(client, ["volume", "prune", "-f", "--filter", "all=1"]).exits(0).says("vol-aa");
        for kind in ["container", "network"] {
            engine.client(client, [kind, "prune", "-f", "--filter", "until=0s"]).exits(0).says("Deleted");
            engine
                .client(client, [kind, "prune", "-f", "--filter", "colour=red"])
                .exits(1)
                .complains("invalid filter");
            engine.client(client, [kind, "prune", "-f", "--filter", "until=soon"]).exits(1);
        }
        engine
            .client(client, ["volume", "prune", "-f", "--filter", "until=1h"])
            .exits(1)
            .complains("invalid filter");
        assert_eq!(left(&engine), ["", "", ""]);
        // The whole system, by label; what has no labels of its own stays.
        stock(&engine);
        engine.client(client, ["system", "prune", "-f", "--filter", "label=drop"]).exits(0);
        assert_eq!(left(&engine), ["aa cc", "vol-aa vol-bb vol-cc", "net-aa net-cc"], "{client}");
        engine.client(client, ["system", "prune", "-f", "--filter", "until=1h"]).exits(0);
        assert_eq!(left(&engine)[0], "aa cc", "{client}");
        engine
            .client(client, ["system", "prune", "-f", "--volumes", "--filter", "until=1h"])
            .exits(1)
            .complains("The \"until\" filter is not supported with \"--volumes\"");
        engine.client(client, ["system", "prune", "-f"]).exits(0);
        engine.client(client, ["volume", "prune", "-af"]).exits(0);
        assert_eq!(left(&engine), ["", "", ""]);
    }
}

fn image_prunes_obey_their_filters() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.ferry(["create", "--name", "maker", "busybox", "true"]).exits(0);
        engine.ferry(["commit", "-c", "LABEL keep=yes", "maker", "labelled:1"]).exits(0);
        engine.ferry(["commit", "-c", "LABEL other=1", "maker", "plain:1"]).exits(0);
        // Two without a name.
        engine.ferry(["commit", "-c", "LABEL keep=yes", "-m", "x", "maker"]).exits(0);
        engine.ferry(["commit", "-m", "y", "maker"]).exits(0);
        let dangling = || engine.ferry(["images", "-q", "-f", "dangling=true"]).ok().lines().count();
        let named = || {
            let mut names: Vec<String> = engine
                .ferry(["images", "--format", "{{.Repository}}"])
                .ok()
                .lines()
                .map(str::to_owned)
                .collect();
            names.retain(|name| name == "labelled" || name == "plain");
            names.sort();
            names.join(" ")
        };
        let prune = |words: &[&str]| {
            let all = ["image", "prune", "-f"].iter().chain(words).copied().collect::<Vec<_>>();
            engine.client(client, all).exits(0);
            (dangling(), named())
        };
        let both = "labelled plain".to_owned();
        assert_eq!(prune(&["--filter", "until=24h"]), (2, both.clone()), "{client}: younger");
        assert_eq!(prune(&["--filter", "label!=keep"]), (1, both.clone()), "{client}");
        assert_eq!(prune(&["--filter", "label=keep=yes"]), (0, both), "{client}");
        assert_eq!(prune(&["-a", "--filter", "label=keep"]), (0, "plain".into()), "{client}");
        // Both clients say themselves whether -a is meant.
        let twice = ["image", "prune", "-f", "--filter", "dangling=false"];
        engine.client(client, twice).exits(1).complains("invalid filter 'dangling=");
        assert_eq!(prune(&["-a", "--filter", "label=other"]), (0, String::new()), "{client}");
        engine.ferry(["rm", "maker"]).exits(0);
    }
}

fn build_cache_prunes_obey_their_filters() {
    let engine = Engine::with_busybox();
    let context = engine.directory().join("context");
    fs::create_dir(&context).unwrap();
    let output = format!("type=tar,dest={}", engine.directory().join("built.tar").display());
    for client in CLIENTS {
        let text = format!("FROM busybox\nRUN echo {client} > /one\nRUN echo two > /two\n");
        fs::write(context.join("Dockerfile"), text).unwrap();
        engine.ferry(["build", "-q", "-o", &output, &context.display().to_string()]).exits(0);
        // The image that this made would share the records' layers.
        engine.ferry(["image", "prune", "-f"]).exits(0);
        let ids = || -> Vec<String> {
            let each = "{{range .BuildCache}}{{.ID}} {{end}}";
            let listed = engine.ferry(["system", "df", "-v", "--format", each]);
            listed.ok().split_whitespace().map(|id| id.trim_end_matches('…').to_owned()).collect()
        };
        let before = ids();
        assert!(before.len() >= 2, "{before:?}");
        let prune = |filter: &str| engine.client(client, ["builder", "prune", "-af", "--filter", filter]);
        for filter in ["until=24h", "id=nope", "type=source.local", "shared=true", "parent=x"] {
            prune(filter).exits(0);
            assert_eq!(ids(), before, "{client}: {filter}");
        }
        prune(&format!("id={}", before[0])).exits(0);
        assert_eq!(ids().len(), before.len() - 1, "{client}");
        engine.client(client, ["system", "prune", "-af", "--filter", "label=x"]).exits(0);
        assert_eq!(ids().len(), before.len() - 1, "{client}: records have no labels");
        prune("private=true").exits(0);
        assert_eq!(ids(), Vec::<String>::new(), "{client}");
    }
}

/// Each asks, and no means no; what it is about to remove is said in numbers.
fn prunes_ask_first() {
    let engine = Engine::with_busybox();
    stock(&engine);
    for (kind, words) in [
        ("container", &["WARNING! This will remove all stopped containers."][..]),
        ("image", &["WARNING! This will remove all dangling images."]),
        ("network", &["WARNING! This will remove all custom networks not used by at least one container."]),
        (
            "volume",
            &["WARNING! This will remove anonymous local volumes not used by at least one container."],
        ),
        ("builder", &["WARNING! This will remove all dangling build cache."]),
    ] {
        for answer in ["n\n", "", "no\n"] {
            let asked = engine.ferry_with_input([kind, "prune"], answer.as_bytes());
            for word in words {
                asked.says(word);
            }
            asked.says("Are you sure you want to continue?");
        }
    }
    assert_eq!(left(&engine), ["aa bb cc", "vol-aa vol-bb vol-cc", "net-aa net-bb net-cc"]);
    // The engine makes its own image in the background of its start: it and busybox are the two.
    wait_until("the embedded image", || engine.ferry(["image", "inspect", "localhost/hello"]).code == 0);
    let asked = engine.ferry_with_input(["system", "prune", "-a", "--volumes"], b"n\n");
    asked
        .exits(0)
        .says("3 stopped containers")
        .says("3 unused networks")
        .says("2 images without a container (");
    assert_eq!(left(&engine), ["aa bb cc", "vol-aa vol-bb vol-cc", "net-aa net-bb net-cc"]);
    let done = engine.ferry_with_input(["system", "prune"], b"y\n");
    done.exits(0).says("Deleted Containers:").says("Deleted Networks:").says("Total reclaimed space:");
    engine
        .ferry(["volume", "prune", "-f"])
        .exits(0)
        .complains("3 named volumes are not used by any container and stay; -a removes them too");
    assert_eq!(left(&engine), ["", "vol-aa vol-bb vol-cc", ""]);
}
