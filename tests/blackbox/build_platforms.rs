//! One build for several platforms: images that go by one name, here and on registries.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;
use ferry_tests::registry::{Access, Registry};
use serde_json::Value;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_platforms::one_name_for_all", one_name_for_all),
    ("build_platforms::exported", exported),
    ("build_platforms::pushed_and_pulled", pushed_and_pulled),
    ("build_platforms::bases_lie_beside_each_other", bases_lie_beside_each_other),
    ("build_platforms::foreign_programs_are_explained", foreign_programs_are_explained),
];

const BOTH: &str = "linux/amd64,linux/arm64";
/// Nothing runs, so that each platform can be built on any machine.
const COPIES: &str = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /architecture\n";

fn context(engine: &Engine, dockerfile: &str) -> String {
    let folder: PathBuf = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in [("Dockerfile", dockerfile), ("amd64", "amd64"), ("arm64", "arm64")] {
        fs::write(folder.join(name), text).expect("a file");
    }
    folder.display().to_string()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn read(path: &Path) -> Value {
    json(&fs::read_to_string(path).expect("a document"))
}

fn architectures(manifests: &Value, platform: impl Fn(&Value) -> &Value) -> Vec<String> {
    let all = manifests.as_array().into_iter().flatten();
    all.map(|one| platform(one)["architecture"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The images without names, those behind others included.
fn unnamed(engine: &Engine) -> usize {
    let list = engine.ferry(["images", "-a", "--format", "{{.Repository}}"]);
    list.ok().lines().filter(|line| *line == "<none>").count()
}

fn one_name_for_all() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, COPIES);
    let built = engine.ferry(["build", "--platform", BOTH, "-t", "multi:1", &folder]);
    built.exits(0).complains("building for linux/arm64").complains("for linux/amd64, linux/arm64");
    let names = engine.ferry(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!names.ok().contains("<none>"), "{names}");
    let image = json(engine.ferry(["image", "inspect", "multi:1"]).ok());
    let found = architectures(&image[0]["Manifests"], |one| &one["ImageData"]["Platform"]);
    assert_eq!(found, ["amd64", "arm64"], "{image}");
    engine
        .ferry(["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Architecture}}", "multi:1"])
        .prints("arm64");
    engine.ferry(["image", "inspect", "--platform", "linux/s390x", "multi:1"]).exits(1);
    // The other platform's image belongs to the name: it is kept with it, and goes with it.
    engine.ferry(["image", "prune", "-f"]).exits(0);
    assert_eq!(unnamed(&engine), 1);
    engine.kill("engine");
    engine
        .ferry(["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Architecture}}", "multi:1"])
        .prints("arm64");
    // Another name of one of them takes nothing away.
    engine.ferry(["build", "-q", "-t", "alone:1", &folder]).exits(0);
    engine.ferry(["image", "inspect", "--platform", "linux/arm64", "multi:1"]).exits(0);
    engine.ferry(["save", "--platform", "linux/arm64", "-o", "/dev/null", "multi:1"]).exits(0);
    engine.ferry(["rmi", "alone:1"]).exits(0);
    // Built for one platform, the name stands for that alone.
    engine.ferry(["build", "-q", "-t", "multi:1", &folder]).exits(0);
    engine.ferry(["image", "inspect", "--platform", "linux/arm64", "multi:1"]).exits(1);
    engine.ferry(["build", "-q", "--platform", BOTH, "-t", "multi:1", &folder]).exits(0);
    engine.ferry(["rmi", "multi:1"]).exits(0);
    assert_eq!(unnamed(&engine), 0);
    engine.ferry(["build", "--platform", "linux/amd64,", &folder]).exits(1).complains("a name is empty");
    let cache = ["build", "--platform", BOTH, "--cache-to", "type=local,dest=/nonexistent/x", &folder];
    engine.ferry(cache).exits(1).complains("type=inline alone");
}

fn exported() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, COPIES);
    let at = |name: &str| engine.directory().join(name);
    let build = |output: String| engine.ferry(["build", "-q", "--platform", BOTH, "-o", &output, &folder]);
    build(format!("type=local,dest={}", at("files").display())).exits(0);
    for architecture in ["amd64", "arm64"] {
        let file = at("files").join(format!("linux_{architecture}/architecture"));
        assert_eq!(fs::read_to_string(file).expect("a file"), architecture);
    }
    build(format!("type=tar,dest={}", at("files.tar").display())).exits(0);
    let packed = fs::File::open(at("files.tar")).expect("an archive");
    let mut archive = tar::Archive::new(packed);
    let names: Vec<String> = archive
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert!(names.contains(&"linux_arm64/architecture".to_owned()), "{names:?}");
    let layout = at("layout");
    build(format!("type=oci,tar=false,name=laid:1,dest={}", layout.display())).exits(0);
    let top = read(&layout.join("index.json"));
    let entry = &top["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1", "{top}");
    let digest = entry["digest"].as_str().unwrap_or_default().replace(':', "/");
    let index = read(&layout.join("blobs").join(digest));
    assert_eq!(architectures(&index["manifests"], |one| &one["platform"]), ["amd64", "arm64"], "{index}");
    build("type=local,dest=x,colour=red".to_owned()).exits(1).complains("\"colour\" is not known");
}

fn pushed_and_pulled() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let name = format!("{}/multi:1", registry.address);
    // What runs, runs on this machine; only its result is for others.
    let dockerfile = "FROM --platform=$BUILDPLATFORM busybox AS tools\nARG TARGETARCH\n\
                      RUN echo made for $TARGETARCH > /text\nFROM scratch\nCOPY --from=tools /text /text\n";
    let folder = context(&engine, dockerfile);
    let metadata = engine.directory().join("metadata.json");
    let told = metadata.display().to_string();
    let build = ["build", "--platform", BOTH, "--provenance=true", "--push", "-t", &name];
    engine.ferry(build.iter().chain(&["--metadata-file", &told, &folder])).exits(0);
    let told = read(&metadata);
    assert_eq!(told["image.name"], name.as_str());
    assert_eq!(told["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(told["containerimage.descriptor"]["digest"], told["containerimage.digest"]);
    assert!(told["buildx.build.provenance/linux/arm64"]["buildDefinition"].is_object(), "{told}");
    let digest = told["containerimage.digest"].as_str().unwrap_or_default().to_owned();

    let other = Engine::with_busybox();
    other.ferry(["pull", &name]).exits(0).says(&format!("Digest: {digest}"));
    let architecture = ["image", "inspect", "--format", "{{.Architecture}}", &name];
    other.ferry(architecture).prints("amd64");
    other.ferry(["pull", "-q", "--platform", "linux/arm64", &name]).exits(0);
    other.ferry(architecture).prints("arm64");
    let files = other.directory().join("files.tar");
    other.ferry(["create", "--name", "box", "--platform", "linux/arm64", &name, "x"]).exits(0);
    other.ferry(["cp", "box:/text", &files.display().to_string()]).exits(0);
    assert_eq!(fs::read_to_string(files).expect("a file"), "made for arm64\n");
    // One of them alone, and without a tag.
    let single = format!("{}/multi:arm", registry.address);
    engine.ferry(["tag", &name, &single]).exits(0);
    engine.ferry(["push", "--platform", "linux/arm64", &single]).exits(0);
    other.ferry(["pull", "-q", "--platform", "linux/amd64", &single]).exits(1);
    let output = format!("type=image,name={}/loose,push-by-digest=true,push=true", registry.address);
    let again = metadata.display().to_string();
    engine.ferry(["build", "-o", &output, "--metadata-file", &again, &folder]).exits(0);
    let digest = read(&metadata)["containerimage.digest"].as_str().unwrap_or_default().to_owned();
    other.ferry(["pull", "-q", &format!("{}/loose@{digest}", registry.address)]).exits(0);
    other.ferry(["pull", "-q", &format!("{}/loose", registry.address)]).exits(1);
}

fn bases_lie_beside_each_other() {
    let registry = Registry::start(&Access::Open);
    let first = Engine::with_busybox();
    let base = format!("{}/base:1", registry.address);
    let folder = context(&first, COPIES);
    first.ferry(["build", "-q", "--platform", BOTH, "--push", "-t", &base, &folder]).exits(0);
    let engine = Engine::with_busybox();
    let folder = context(&engine, &format!("FROM {base}\nLABEL a=b\n"));
    let order = "linux/arm64,linux/amd64";
    engine.ferry(["build", "-q", "--platform", order, "-t", "app", &folder]).exits(0);
    // This machine's base has the name, whichever came first.
    engine.ferry(["image", "inspect", "--format", "{{.Architecture}}", &base]).prints("amd64");
    engine.ferry(["image", "inspect", "--format", "{{.Architecture}}", "app"]).prints("amd64");
    // Both are here: nobody is asked for them again.
    drop(registry);
    engine.ferry(["build", "-q", "--no-cache", "--platform", order, "-t", "app", &folder]).exits(0);
}

fn foreign_programs_are_explained() {
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        return;
    }
    let engine = Engine::with_busybox();
    // A program's head is all that the kernel looks at before it refuses.
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    program.resize(4096, 0);
    let folder = context(&engine, "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n");
    fs::write(Path::new(&folder).join("sh"), program).expect("a file");
    let failed = engine.ferry(["build", "--platform", "linux/arm64", &folder]);
    failed.exits(1).complains("do not run on this machine without an emulator").complains("BUILDPLATFORM");
}
