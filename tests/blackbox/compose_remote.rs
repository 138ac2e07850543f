//! Compose files that are elsewhere: included and named by `-f` from Git repositories and registries, and published.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::own_registry::OwnRegistry;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_remote::included_from_git", included_from_git),
    ("compose_remote::published_and_used", published_and_used),
    ("compose_remote::published_whole", published_whole),
    ("compose_remote::published_with_images", published_with_images),
    ("compose_remote::not_published", not_published),
];

fn git(folder: &Path, line: &str) {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "init.defaultBranch=main",
    ]);
    let output =
        command.args(line.split_whitespace()).current_dir(folder).output().expect("git is installed");
    assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with a Compose file in `deploy`, which takes its text from a `.env` beside it.
fn repository(engine: &Engine) -> PathBuf {
    let folder = engine.directory().join("shared.git");
    fs::create_dir_all(folder.join("deploy")).expect("folders");
    let text = "services: {told: {image: busybox, command: echo $TEXT}}\n";
    fs::write(folder.join("deploy/compose.yaml"), text).expect("a file");
    fs::write(folder.join("deploy/.env"), "TEXT=first\n").expect("a file");
    git(&folder, "init -q");
    git(&folder, "add .");
    git(&folder, "commit -q -m first");
    git(&folder, "tag v1");
    fs::write(folder.join("deploy/.env"), "TEXT=second\n").expect("a file");
    git(&folder, "commit -q -a -m second");
    folder
}

fn included_from_git() {
    let project = Project::new("");
    let url = format!("file://{}", repository(&project.engine).display());
    for (fragment, told) in
        [("#:deploy", "second"), ("#v1:deploy", "first"), ("#main:deploy/compose.yaml", "second")]
    {
        project.write(&format!("include: ['{url}{fragment}']\nservices: {{own: {{image: busybox}}}}\n"));
        project.compose(&["config", "--services"]).says("own").says("told");
        project.compose(&["run", "--rm", "told"]).says(told);
        project.compose(&["down"]).exits(0);
        // The same file named by itself.
        let named = format!("{url}{fragment}");
        project.engine.ferry(["compose", "-p", "own", "-f", &named, "run", "--rm", "told"]).says(told);
        project.engine.ferry(["compose", "-p", "own", "-f", &named, "down"]).exits(0);
    }
    for (name, complaint) in [
        (format!("{url}#nothing:deploy"), "the repository has no nothing"),
        (format!("{url}#v1:elsewhere"), "the repository has no elsewhere"),
        (format!("{url}#v1"), "has no Compose file"),
        ("https://127.0.0.1:1/none.git".to_owned(), "cannot fetch https://127.0.0.1:1/none.git"),
    ] {
        project.write(&format!("include: ['{name}']\n"));
        project.compose(&["config"]).exits(1).complains(complaint);
    }
}

fn published_and_used() {
    let project = Project::new(
        "name: shipped\nservices: {web: {image: busybox, env_file: web.env, command: sh -c 'echo $$TOLD'}}\n",
    );
    let folder = project.engine.directory().join("app");
    fs::write(folder.join("web.env"), "TOLD=by the env file\n").expect("a file");
    let registry = OwnRegistry::start(&[]);
    let name = format!("{}/team/app:1", registry.address);

    project.compose(&["publish", &name]).exits(1).complains("has an env_file").complains("--with-env");
    project.compose(&["publish", "--with-env", &name]).exits(0).says(&format!("{name}@sha256:"));
    let remote = format!("oci://{name}");
    project.engine.ferry(["compose", "-f", &remote, "up"]).exits(0).says("by the env file");
    project.engine.ferry(["compose", "ls", "-a", "-q"]).prints("shipped");
    project.engine.ferry(["compose", "-f", &remote, "down"]).exits(0);

    project.write(&format!("include: ['{remote}']\nservices: {{own: {{image: busybox}}}}\n"));
    project.compose(&["config", "--services"]).says("own").says("web");
    project.write("include: ['oci://127.0.0.1:1/none']\n");
    project.compose(&["config"]).exits(1).complains("127.0.0.1:1");
    // An image is no project.
    project.engine.ferry(["tag", "busybox", &name]).exits(0);
    project.engine.ferry(["push", "-q", &name]).exits(0);
    project.write(&format!("include: ['{remote}']\n"));
    project.compose(&["config"]).exits(1).complains("is no");
}

fn published_whole() {
    let project =
        Project::new("include: [more.yaml]\nservices: {web: {extends: {file: base.yaml, service: base}}}\n");
    let folder = project.engine.directory().join("app");
    fs::write(folder.join("more.yaml"), "services: {more: {image: busybox}}\n").expect("a file");
    fs::write(folder.join("base.yaml"), "services: {base: {image: 'busybox:${TAG:-latest}'}}\n")
        .expect("a file");
    let registry = OwnRegistry::start(&[]);
    let name = format!("{}/whole", registry.address);
    project.compose(&["publish", &name]).exits(0);
    let remote = format!("oci://{name}");
    let shown = project.engine.ferry(["compose", "-p", "x", "-f", &remote, "config", "--images"]);
    shown.exits(0).says("busybox:latest");
    project
        .engine
        .ferry(["compose", "-p", "x", "-f", &remote, "config", "--services"])
        .says("more")
        .says("web");
    // What is pinned stays pinned, whatever the tag names later.
    let image = format!("{}/pinned", registry.address);
    project.engine.ferry(["tag", "busybox", &image]).exits(0);
    project.engine.ferry(["push", "-q", &image]).exits(0);
    project.write(&format!("services: {{web: {{image: '{image}'}}}}\n"));
    project.compose(&["publish", "--resolve-image-digests", &name]).exits(0);
    project.engine.ferry(["compose", "-p", "x", "-f", &remote, "config", "--images"]).says("@sha256:");
}

/// `--app`: the images of the services come along, and an index of them is about the project; in both versions of the form.
fn published_with_images() {
    let project = Project::new("name: whole\nservices: {web: {image: busybox}, db: {image: busybox}}\n");
    let registry = OwnRegistry::start(&[]);
    for version in ["1.0", "1.1"] {
        let name = format!("{}/team/whole:{version}", registry.address);
        let published =
            project.compose(&["publish", "--app", "--oci-version", version, &name]).ok().to_owned();
        let remote = format!("oci://{name}");
        project.engine.ferry(["compose", "-f", &remote, "config", "--services"]).says("web").says("db");
        let digest = published.trim().rsplit_once('@').expect("a digest").1;
        let referrers = registry.send("GET", &format!("/v2/team/whole/referrers/{digest}"), &[], b"");
        let index =
            referrers.json()["manifests"][0]["digest"].as_str().expect("an index is about it").to_owned();
        let accepts = [("Accept", "application/vnd.oci.image.index.v1+json")];
        let index = registry.send("GET", &format!("/v2/team/whole/manifests/{index}"), &accepts, b"");
        let index = index.json();
        let images = index["manifests"].as_array().expect("a list");
        assert_eq!(images.len(), 1, "one image serves both: {index}");
        // What it lists can be pulled from there.
        let image =
            format!("{}/team/whole@{}", registry.address, images[0]["digest"].as_str().expect("a digest"));
        Engine::start().ferry(["run", "--rm", &image, "echo", "pulled"]).prints("pulled");
    }
}

fn not_published() {
    let project = Project::new("services: {web: {image: busybox, volumes: ['./data:/data']}}\n");
    project
        .compose(&["publish", "127.0.0.1:1/x"])
        .exits(1)
        .complains("nothing was published")
        .complains("-y");
    project.write("services: {web: {build: .}}\n");
    project.compose(&["publish", "127.0.0.1:1/x"]).exits(1).complains("only built");
    project.write("services: {web: {image: busybox}}\n");
    project.compose(&["publish", "127.0.0.1:1/x"]).exits(1).complains("127.0.0.1:1");
    project
        .compose(&["publish", "--oci-version", "2.0", "127.0.0.1:1/x"])
        .exits(1)
        .complains("unsupported OCI version: 2.0");
    project.compose(&["publish"]).exits(1);
}
