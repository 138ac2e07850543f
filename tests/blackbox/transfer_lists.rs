//! `manifest` and `search`: what registries have.

use ferry_tests::Engine;
use ferry_tests::faulty::{Answer, Faulty};
use ferry_tests::registry::{Access, Registry};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] =
    &[("transfer_lists::manifest_lists", manifest_lists), ("transfer_lists::search", search)];

fn manifest_lists() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let (one, two) = (format!("{}/one:x", registry.address), format!("{}/two:x", registry.address));
    let list = format!("{}/list:x", registry.address);
    for name in [&one, &two] {
        engine.ferry(["tag", "busybox", name]).exits(0);
        engine.ferry(["push", "-q", name]).exits(0);
    }
    engine.ferry(["manifest", "create", &list, &one, &two]).exits(0).says("Created manifest list");
    engine.ferry(["manifest", "create", &list, &one]).exits(1).complains("--amend");
    engine.ferry(["manifest", "annotate", &list, &two, "--arch", "arm64", "--variant", "v8"]).exits(0);
    let seen = engine.ferry(["manifest", "inspect", &list]);
    let seen: serde_json::Value = serde_json::from_str(seen.ok()).expect("JSON");
    let platforms: Vec<&str> = seen["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"], "{seen:#}");
    let digest = engine.ferry(["manifest", "push", "--purge", &list]).ok().to_owned();
    assert!(digest.starts_with("sha256:"), "{digest}");
    engine.ferry(["manifest", "rm", &list]).exits(1).complains("No such manifest");
    for client in CLIENTS {
        // Docker's client asks the registry itself and takes loopback for insecure only when told so.
        let seen = engine.client(client, ["manifest", "inspect", "--insecure", &list]);
        assert!(seen.ok().contains("arm64"), "{seen}");
    }
    let verbose = engine.ferry(["manifest", "inspect", "-v", &list]).ok().to_owned();
    assert!(verbose.contains("\"Ref\"") && verbose.contains("\"layers\""), "{verbose}");
    engine
        .ferry(["manifest", "inspect", &format!("{}/nosuch", registry.address)])
        .exits(1)
        .complains("not found");
    for (client, platform, exit) in
        [("ferry", "linux/arm64", 0), ("docker", "linux/amd64", 0), ("ferry", "linux/s390x", 1)]
    {
        let other = Engine::start();
        let pulled = other.client(client, ["pull", "--platform", platform, &list]);
        pulled.exits(exit);
        match exit {
            0 => assert!(pulled.stdout.contains(&digest), "{pulled}"),
            _ => drop(pulled.complains("no matching manifest for linux/s390x")),
        }
    }
}

fn search() {
    let server = Faulty::start(|request| match request.path.as_str() {
        "/v1/search?q=web%20server&n=25" => Answer::status(200).body(
            r#"{"num_results": 2, "results": [
                {"name": "nginx", "description": "a web\nserver", "star_count": 100, "is_official": true},
                {"name": "me/nginx", "description": "mine", "star_count": 1, "is_official": false}]}"#,
        ),
        _ => Answer::status(404),
    });
    let engine = Engine::start();
    let term = format!("{}/web server", server.address);
    for client in CLIENTS {
        let found =
            engine.client(client, ["search", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}", &term]);
        found.prints("nginx 100 [OK]\nme/nginx 1 ");
        let found = engine.client(client, ["search", "-f", "stars=50", "--format", "{{.Name}}", &term]);
        found.prints("nginx");
        let found =
            engine.client(client, ["search", "-f", "is-official=false", "--format", "{{.Name}}", &term]);
        found.prints("me/nginx");
        engine.client(client, ["search", &format!("{}/other", server.address)]).exits(1).complains("404");
        engine.client(client, ["search", "--limit", "101", &term]).exits(1);
    }
}
