//! What is in images: layers, files, waste, and how two images differ.

use ferry_tests::Engine;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] =
    &[("explore::layers_and_waste", layers_and_waste), ("explore::differences", differences)];

/// busybox, and on it: a large file, then another in its place, and a folder that goes.
fn layered() -> Engine {
    let engine = Engine::with_busybox();
    let mut from = "busybox".to_owned();
    for (name, command) in [
        ("one", "mkdir /d && dd if=/dev/zero of=/d/big bs=1000 count=500 && echo old >/d/gone"),
        (
            "two",
            "dd if=/dev/zero of=/d/big bs=1000 count=300 && rm /d/gone && echo new >/d/new && ln -s big /d/link",
        ),
    ] {
        engine.ferry(["run", "--name", name, &from, "sh", "-c", command]).exits(0);
        engine.ferry(["commit", name, name]).exits(0);
        from = name.to_owned();
    }
    engine
}

fn layers_and_waste() {
    let engine = layered();
    let shown = engine.ferry(["image", "explore", "two"]);
    shown.exits(0).says("WASTED").says("/d/big").says("500kB");
    let lines = engine.ferry(["image", "explore", "--files", "--format", "json", "two"]).ok().to_owned();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let layers = &lines.last().expect("a summary")["Explored"]["Layers"];
    assert_eq!(layers.as_array().map(Vec::len), Some(3));
    assert_eq!(layers[1]["Wasted"], 500_004);
    assert_eq!(layers[2]["Wasted"], 0);
    assert_eq!((&layers[2]["Changed"], &layers[2]["Removed"]), (&1.into(), &1.into()));
    let found =
        |path: &str| lines.iter().find(|line| line["File"]["Path"] == path).map(|line| line["File"].clone());
    let big = found("/d/big").expect("it is seen");
    assert_eq!((&big["Size"], &big["Layer"]), (&300_000.into(), &2.into()));
    assert!(found("/d/gone").is_none());
    // As many as a container sees.
    let seen = engine.ferry(["run", "--rm", "two", "find", "/bin", "/d"]).ok().lines().count();
    let listed = lines.iter().filter_map(|line| line["File"]["Path"].as_str());
    let listed = listed
        .filter(|path| ["/bin", "/d"].iter().any(|top| path == top || path.starts_with(&format!("{top}/"))));
    assert_eq!(listed.count(), seen);
    engine.ferry(["image", "explore", "nosuch"]).exits(1).complains("nosuch");
}

fn differences() {
    let engine = layered();
    let shown = engine.ferry(["image", "diff", "one", "two"]).ok().to_owned();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines, ["C /d/big  500kB -> 300kB", "D /d/gone  -4B", "A /d/link", "A /d/new  +4B"]);
    engine.ferry(["image", "diff", "-q", "one", "one"]).prints("").exits(0);
    engine.ferry(["image", "diff", "-q", "one", "two"]).prints("").exits(1);
}
