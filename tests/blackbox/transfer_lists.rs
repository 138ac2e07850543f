//! `manifest` and `search`: what registries have.

use ferry_tests::Engine;
use ferry_tests::faulty::{Answer, Faulty};
use ferry_tests::registry::{Access, Registry};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_lists::manifest_lists", manifest_lists),
    ("transfer_lists::flags_of_manifest", flags_of_manifest),
    ("transfer_lists::search", search),
];

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

/// Every flag of the `manifest` commands; what is pushed is what Docker's client pushes.
fn flags_of_manifest() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let place = |name: &str| format!("{}/{name}:x", registry.address);
    let (one, two) = (place("one"), place("two"));
    for name in [&one, &two] {
        engine.ferry(["tag", "busybox", name]).exits(0);
        engine.ferry(["push", "-q", name]).exits(0);
    }
    let mut pushed = Vec::new();
    for client in CLIENTS {
        let list = place(&format!("list-{client}"));
        let manifest = |words: &[&str]| engine.client(client, ["manifest"].iter().chain(words));
        manifest(&["create", "--insecure", &list, &one]).exits(0).says("Created manifest list");
        manifest(&["create", "--insecure", "--amend", &list, &two]).exits(0);
        let flags = [
            ["--os", "windows"],
            ["--os-version", "10.0.17763.1"],
            ["--os-features", "win32k"],
            ["--arch", "amd64"],
            ["--variant", "v3"],
        ];
        let words = [&["annotate"], flags.as_flattened(), &[&list, &two]].concat();
        manifest(&words).exits(0);
        // One entry of a list that is not pushed yet, and an entry that it does not have.
        manifest(&["inspect", "--insecure", &list, &two]).exits(0).says("schemaVersion");
        manifest(&["inspect", "--insecure", "-v", &list, &two]).exits(0).says("10.0.17763.1").says("win32k");
        manifest(&["annotate", &list, &place("nobody"), "--arch", "arm"]).exits(1);
        manifest(&["annotate", &list, &two, "--os", "windows", "--arch", "nonsense"]).exits(1);
        manifest(&["push", "--insecure", &list]).exits(0).says("sha256:");
        // It is still there without `--purge`, and can be pushed again and thrown away.
        let digest = manifest(&["push", "--insecure", "-p", &list]).exits(0).stdout.clone();
        manifest(&["annotate", &list, &two, "--arch", "arm"]).exits(1);
        pushed.push(digest.lines().last().unwrap_or_default().trim().to_owned());
        for name in ["first", "second"] {
            manifest(&["create", "--insecure", &place(name), &one]).exits(0);
        }
        manifest(&["rm", &place("first"), &place("second")]).exits(0);
        manifest(&["rm", &place("first")]).exits(1).complains("No such manifest");
    }
    let document = |client: &str| {
        let url = format!("http://{}/v2/list-{client}/manifests/x", registry.address);
        let accept = "Accept: application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.index.v1+json";
        let output = std::process::Command::new("curl").args(["-s", "-H", accept, &url]).output();
        String::from_utf8(output.expect("curl is installed").stdout).expect("text")
    };
    assert_eq!(document("ferry"), document("docker"), "the same list, byte for byte");
    assert!(pushed[0].starts_with("sha256:") && pushed[0] == pushed[1], "{pushed:?}");
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
        let table = engine.client(client, ["search", "--limit", "25", "--no-trunc", &term]);
        table.exits(0).says("NAME").says("STARS").says("a web server");
        engine.client(client, ["search", "-f", "nonsense=1", &term]).exits(1).complains("nonsense");
        engine.client(client, ["search", &format!("{}/other", server.address)]).exits(1).complains("404");
        engine.client(client, ["search", "--limit", "101", &term]).exits(1);
    }
}
