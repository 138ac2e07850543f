//! Where results and caches of builds go, and come from.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;
use ferry_tests::registry::{Access, Registry};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_results::cache_in_a_folder", cache_in_a_folder),
    ("build_results::cache_in_a_registry", cache_in_a_registry),
    ("build_results::cache_within_the_image", cache_within_the_image),
    ("build_results::push", push),
    ("build_results::kinds_of_output", kinds_of_output),
    ("build_results::attestations", attestations),
    ("build_results::attestations_travel", attestations_travel),
    ("build_results::annotations", annotations),
    ("build_results::verify", verify),
    ("build_results::same_inputs_same_digest", same_inputs_same_digest),
    ("build_results::why_miss", why_miss),
    ("build_results::private_bases", private_bases),
    ("build_results::base_of_another_platform", base_of_another_platform),
    ("build_results::shell_in_front_of_a_failure", shell_in_front_of_a_failure),
];

const DOCKERFILE: &str = "FROM busybox AS tools\nRUN head -c 20 /dev/urandom | md5sum > /tool\n\
                          FROM busybox\nCOPY a /a\nRUN head -c 20 /dev/urandom | md5sum > /random\nCOPY --from=tools /tool /\n";

fn context(engine: &Engine, dockerfile: &str) -> PathBuf {
    let folder = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    fs::write(folder.join("a"), "a").expect("a file");
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The names of the images, without the one that comes with ferry.
fn images(engine: &Engine) -> Vec<String> {
    let list = engine.ferry(["images", "--format", "{{.Repository}}"]);
    let mut names: Vec<String> = list.ok().lines().map(str::to_owned).collect();
    names.retain(|name| name != "localhost/hello");
    names.sort();
    names
}

/// An image that cannot be made twice by chance is the proof: another engine gives the very same one.
fn cached_elsewhere(to: &str, from: &str) {
    let first = Engine::with_busybox();
    let folder = text(&context(&first, DOCKERFILE));
    let id = first.ferry(["build", "-q", "--cache-to", to, "-t", "c", &folder]).ok().to_owned();
    assert_eq!(images(&first), ["busybox", "c"], "the cache leaves no image behind");
    let second = Engine::with_busybox();
    let other = second.ferry(["build", "-q", &folder]).ok().to_owned();
    assert_ne!(other, id, "without the cache");
    let third = Engine::with_busybox();
    let cached = third.ferry(["build", "-q", "--cache-from", from, "-t", "c", &folder]);
    assert_eq!(cached.ok(), id, "{cached}");
    third.ferry(["run", "--rm", "c", "cat", "/random"]).exits(0);
    assert_eq!(images(&third), ["busybox", "c"]);
    // What was imported stays.
    third.kill("engine");
    assert_eq!(third.ferry(["build", "-q", &folder]).ok(), id);
}

fn cache_in_a_folder() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("cache");
    let (to, from) =
        (format!("type=local,mode=max,dest={}", text(&folder)), format!("type=local,src={}", text(&folder)));
    cached_elsewhere(&to, &from);
    // Written again in its own place, and a cache that is not there is none.
    let engine = Engine::with_busybox();
    let context = text(&context(&engine, DOCKERFILE));
    engine.ferry(["build", "-q", "--cache-to", &to, &context]).exits(0);
    engine.ferry(["build", "-q", "--cache-from", "type=local,src=/nonexistent", &context]).exits(0);
    let precious = format!("type=local,dest={context}");
    engine
        .ferry(["build", "-q", "--cache-to", &precious, &context])
        .exits(1)
        .complains("neither empty nor a cache");
    assert!(Path::new(&context).join("a").exists());
}

fn cache_in_a_registry() {
    let registry = Registry::start(&Access::Open);
    let name = format!("{}/cache:main", registry.address);
    cached_elsewhere(&format!("type=registry,ref={name},mode=max"), &format!("type=registry,ref={name}"));
    let engine = Engine::with_busybox();
    let context = text(&context(&engine, DOCKERFILE));
    let missing = format!("{}/none:main", registry.address);
    engine.ferry(["build", "--cache-from", &missing, &context]).exits(0).complains("no cache from");
}

fn cache_within_the_image() {
    let registry = Registry::start(&Access::Open);
    let name = format!("{}/app:1", registry.address);
    let first = Engine::with_busybox();
    let dockerfile = "FROM busybox\nCOPY a /a\nRUN head -c 20 /dev/urandom | md5sum > /random\n";
    let folder = text(&context(&first, dockerfile));
    first.ferry(["build", "-t", &name, "--cache-to", "type=inline", "--push", &folder]).exits(0);
    let random = first.ferry(["run", "--rm", &name, "cat", "/random"]).ok().to_owned();
    let second = Engine::with_busybox();
    second.ferry(["build", "-t", "app", "--cache-from", &name, &folder]).exits(0);
    second.ferry(["run", "--rm", "app", "cat", "/random"]).prints(&random);
}

fn push() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCOPY a /a\n"));
    let (one, two) = (format!("{}/one:1", registry.address), format!("{}/two:2", registry.address));
    let id = engine.ferry(["build", "-q", "--push", "-t", &one, &folder]).ok().to_owned();
    engine.ferry(["build", "-q", "-o", &format!("type=registry,name={two}"), &folder]).exits(0);
    engine.ferry(["rmi", "-f", &id]).exits(0);
    for name in [&one, &two] {
        engine.ferry(["pull", "-q", name]).exits(0);
        engine.ferry(["run", "--rm", name, "cat", "/a"]).prints("a");
    }
    engine.ferry(["build", "--push", &folder]).exits(1).complains("a name is needed");
}

fn kinds_of_output() {
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCOPY a /dir/a\n"));
    let at = |name: &str| text(&engine.directory().join(name));
    let (iid, metadata) = (at("iid"), at("metadata.json"));
    let id =
        engine.ferry(["build", "-q", "--iidfile", &iid, "--metadata-file", &metadata, "-t", "o", &folder]);
    let id = id.ok().to_owned();
    assert_eq!(fs::read_to_string(&iid).expect("the id"), id);
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(&metadata).expect("metadata")).expect("JSON");
    assert_eq!(written["containerimage.config.digest"], id);
    for kind in ["oci", "docker"] {
        let archive = at(kind);
        engine.ferry(["build", "-q", "-o", &format!("type={kind},dest={archive}"), &folder]).exits(0);
        let other = Engine::start();
        other.ferry(["load", "-i", &archive]).exits(0);
        other.ferry(["run", "--rm", &id, "cat", "/dir/a"]).prints("a");
    }
    engine.ferry(["build", "-q", "-o", &format!("type=tar,dest={}", at("files.tar")), &folder]).exits(0);
    engine.ferry(["build", "-q", "-o", &format!("type=local,dest={}", at("files")), &folder]).exits(0);
    engine.ferry(["build", "-q", "-o", "type=image", &folder]).exits(0);
    assert_eq!(fs::read(engine.directory().join("files/dir/a")).expect("the file"), b"a");
    assert!(fs::metadata(at("files.tar")).expect("the archive").len() > 1024);
    // What the image has, and nothing that only its containers have.
    context(&engine, "FROM scratch\nCOPY a /dir/a\nVOLUME /data\n");
    engine.ferry(["build", "-q", "-o", &at("bare"), &folder]).exits(0);
    let names = |folder: String| {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("a name")).collect::<Vec<_>>()
    };
    assert_eq!((names(at("bare")), names(at("bare/dir"))), (vec!["dir".to_owned()], vec!["a".to_owned()]));
}

fn verify() {
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCOPY a /a\nRUN echo b > /b\n"));
    engine.ferry(["build", "--verify", "-t", "v", &folder]).exits(0).complains("verified");
    context(&engine, "FROM busybox\nRUN echo same > /same\nRUN head -c 9 /dev/urandom > /random\n");
    let outcome = engine.ferry(["build", "--verify", "-t", "w", &folder]);
    outcome.exits(1).complains("the builds differ").complains("/random");
    assert!(!outcome.stderr.rsplit("differ").next().unwrap_or_default().contains("/same"), "{outcome}");
}

/// The digest says what is in an image, and nothing of when it was built.
fn same_inputs_same_digest() {
    let dockerfile = "FROM busybox AS tools\nWORKDIR /made\nRUN echo tool > tool && mkdir -p deep/er && rm /etc/group\n\
                      FROM busybox\nCOPY a /new/a\nCOPY --from=tools /made /made\nCOPY <<EOF /inline\ntext\nEOF\n\
                      RUN touch /b && ln -s /b /c && chmod 700 /new/a\nENV A=b\n";
    let first = Engine::with_busybox();
    let folder = text(&context(&first, dockerfile));
    let file = fs::File::options().write(true).open(Path::new(&folder).join("a")).expect("the file");
    let newest = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    file.set_modified(newest).expect("a time");
    let id = first.ferry(["build", "-q", "-t", "same", &folder]).ok().to_owned();
    let second = Engine::with_busybox();
    assert_eq!(second.ferry(["build", "-q", &folder]).ok(), id, "on another engine");
    assert_eq!(second.docker(["build", "-q", "--no-cache", &folder]).ok(), id, "through the classic API");
    assert_eq!(
        first.ferry(["build", "-q", "--no-cache", "-t", "same", &folder]).ok(),
        id,
        "without the cache"
    );
    let seconds = newest.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    first
        .ferry(["run", "--rm", "same", "stat", "-c", "%Y", "/b", "/new/a"])
        .prints(&format!("{seconds}\n{seconds}"));
    // The list says when it was built all the same.
    first.ferry(["images", "same", "--format", "{{.CreatedSince}}"]).says("second");
}

fn why_miss() {
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nARG X=1\nCOPY . /d\nRUN echo $X\n"));
    engine.ferry(["build", "--why-miss", &folder]).exits(0).complains("never built before");
    fs::write(Path::new(&folder).join("a"), "changed").expect("a file");
    engine.ferry(["build", "--why-miss", &folder]).exits(0).complains("file a changed");
    engine
        .ferry(["build", "--why-miss", "--build-arg", "X=2", &folder])
        .exits(0)
        .complains("variable X changed");
}

fn shell_in_front_of_a_failure() {
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nRUN echo kept > /kept\nRUN false\n"));
    let outcome = engine.ferry_with_input(["build", "--on-error=shell", &folder], b"cat /kept; exit 3\n");
    outcome.exits(1).says("kept").complains("non-zero code: 1");
}

fn attestations() {
    let engine = Engine::with_images(&["python"]);
    let folder = text(&context(&engine, "FROM python:3.8\nARG TOKEN\nCOPY a /a\n"));
    let out = engine.directory().join("attested");
    let target = text(&out);
    let arguments = [
        "build",
        "-q",
        "--sbom=true",
        "--provenance=true",
        "--build-arg",
        "TOKEN=s3cret",
        "-o",
        &target,
        &folder,
    ];
    engine.ferry(arguments).exits(0);
    let read = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    let sbom: serde_json::Value = serde_json::from_str(&read("sbom.spdx.json")).expect("JSON");
    let names: Vec<&str> = sbom["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for name in ["libc6", "python3", "pip"] {
        assert!(names.contains(&name), "{name} is not among {} packages", names.len());
    }
    let provenance = read("provenance.json");
    assert!(provenance.contains("pkg:docker/python:3.8") && provenance.contains("TOKEN"), "{provenance}");
    assert!(!provenance.contains("s3cret"), "{provenance}");
    engine.ferry(["build", "-q", "--sbom=false", "--provenance=false", &folder]).exits(0);
}

/// What is claimed of an image is in the index that a registry gets, and in archives.
fn attestations_travel() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCOPY a /a\n"));
    let name = format!("{}/attested:1", registry.address);
    engine
        .ferry(["build", "-q", "--sbom=true", "--provenance=mode=max", "--push", "-t", &name, &folder])
        .exits(0);
    let index: serde_json::Value =
        serde_json::from_str(engine.ferry(["manifest", "inspect", "--insecure", &name]).ok()).expect("JSON");
    let entries = index["manifests"].as_array().expect("an index");
    assert_eq!(entries.len(), 2, "{index}");
    assert_eq!(entries[1]["platform"]["os"], "unknown");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
    let claims =
        format!("{}/attested@{}", registry.address, entries[1]["digest"].as_str().expect("a digest"));
    let manifest: serde_json::Value =
        serde_json::from_str(engine.ferry(["manifest", "inspect", "--insecure", &claims]).ok())
            .expect("JSON");
    let kinds: Vec<_> = manifest["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| layer["annotations"]["in-toto.io/predicate-type"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);
    let inspected = engine.ferry(["image", "inspect", &name, "-f", "{{json .Manifests}}"]);
    inspected.exits(0).says("\"Kind\":\"attestation\"");
    // Others pull the image out of the index.
    let other = Engine::start();
    other.docker(["pull", "-q", &name]).exits(0);
    other.ferry(["run", "--rm", &name, "cat", "/a"]).prints("a");
    let archive = text(&engine.directory().join("attested.tar"));
    engine.ferry(["build", "-q", "--sbom=true", "-o", &format!("type=oci,dest={archive}"), &folder]).exits(0);
    let unpacked = engine.directory().join("unpacked");
    fs::create_dir(&unpacked).expect("a folder");
    let tar = std::process::Command::new("tar").args(["-xf", &archive, "-C"]).arg(&unpacked).status();
    assert!(tar.expect("tar runs").success());
    let layout: serde_json::Value =
        serde_json::from_slice(&fs::read(unpacked.join("index.json")).expect("an index")).expect("JSON");
    let digest = layout["manifests"][0]["digest"].as_str().expect("a digest").replace(':', "/");
    let nested = fs::read_to_string(unpacked.join("blobs").join(digest)).expect("the nested index");
    assert!(nested.contains("attestation-manifest"), "{nested}");
    other.ferry(["load", "-i", &archive]).exits(0);
}

/// Annotations of each level, in what a registry gets and in the table of contents of an archive.
fn annotations() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCOPY a /a\n"));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let pushed = |name: &str| json(engine.ferry(["manifest", "inspect", "--insecure", name]).ok());
    let name = format!("{}/annotated:1", registry.address);
    let plain = ["build", "-q", "--annotation", "title=An app = good", "-t", &name, "--push", &folder];
    let id = engine.ferry(plain).ok().to_owned();
    assert_eq!(pushed(&name)["annotations"]["title"], "An app = good");
    assert_eq!(engine.ferry(["build", "-q", &folder]).ok(), id, "annotations do not change the image");

    let other = format!("{}/annotated:2", registry.address);
    let archive = text(&engine.directory().join("annotated.tar"));
    engine
        .ferry([
            "build",
            "-q",
            "--annotation=index,manifest[linux/amd64]:a=b",
            "--annotation=manifest-descriptor:c=d",
            "--sbom=true",
            "-t",
            &other,
            "-o",
            "type=registry,annotation-index.e=f",
            "-o",
            &format!("type=oci,dest={archive},annotation-index-descriptor.g=h"),
            &folder,
        ])
        .exits(0);
    let index = pushed(&other);
    assert_eq!(index["annotations"], serde_json::json!({ "a": "b", "e": "f" }));
    assert_eq!(index["manifests"][0]["annotations"]["c"], "d");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let manifest = pushed(&format!("{}/annotated@{digest}", registry.address));
    assert_eq!(manifest["annotations"], serde_json::json!({ "a": "b" }));
    let listed = std::process::Command::new("tar").args(["-xOf", &archive, "index.json"]).output();
    let listed = json(&String::from_utf8_lossy(&listed.expect("tar runs").stdout));
    assert_eq!(listed["manifests"][0]["annotations"]["g"], "h", "{listed}");

    let refused = |annotation: &str| engine.ferry(["build", "-q", "--annotation", annotation, &folder]);
    refused("nothing").exits(1).complains("invalid annotation \"nothing\", expected key=value");
    refused("moon:a=b").exits(1).complains("unknown annotation type \"moon\"");
    refused("manifest[linux/s390x]:a=b").exits(1).complains("no platform linux/s390x found in source");
}

/// Bases of private registries: the client's login travels with the build.
fn private_bases() {
    let registry = Registry::start(&Access::User { name: "ann", password: "secret word" });
    let name = format!("{}/base:1", registry.address);
    let login = ["login", "-u", "ann", "-p", "secret word", &registry.address];
    let first = Engine::with_busybox();
    first.ferry(login).exits(0);
    first.ferry(["tag", "busybox", &name]).exits(0);
    first.ferry(["push", "-q", &name]).exits(0);
    for client in CLIENTS {
        let engine = Engine::start();
        let folder = text(&context(&engine, &format!("FROM {name}\nCOPY a /a\n")));
        let refused = engine.client(client, ["build", &folder]);
        assert_ne!(refused.code, 0, "{refused}");
        engine.client(client, login).exits(0);
        engine.client(client, ["build", "-t", "made", &folder]).exits(0);
        engine.client(client, ["run", "--rm", "made", "cat", "/a"]).prints("a");
    }
}

/// A registry that has a base for another platform alone gives that one, and the build says so.
fn base_of_another_platform() {
    let registry = Registry::start(&Access::Open);
    let name = format!("{}/base:1", registry.address);
    let first = Engine::with_busybox();
    first.ferry(["tag", "busybox", &name]).exits(0);
    first.ferry(["push", "-q", &name]).exits(0);
    let engine = Engine::start();
    let folder = text(&context(&engine, &format!("FROM {name}\nCOPY a /a\n")));
    let built = engine.ferry(["build", "--platform", "linux/arm64", "-t", "other", &folder]);
    built.exits(0).complains("InvalidBaseImagePlatform").complains("expected \"linux/arm64\"");
    let silent = engine.ferry(["build", "--platform", "linux/amd64", &folder]);
    silent.exits(0);
    assert!(!silent.stderr.contains("InvalidBaseImagePlatform"), "{silent}");
}
