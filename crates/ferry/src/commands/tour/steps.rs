//! What the tour shows, as a table. Names begin with `tour`, so that nothing of the user's is touched.

/// One step: why, and what is done.
pub(super) struct Step {
    pub why: &'static str,
    pub action: Action,
}

/// What a step does. `PORT` stands for a free port of this machine, `APP` for the example's folder.
pub(super) enum Action {
    /// A command, its words without `ferry`.
    Ferry(&'static [&'static str]),
    /// Asks a page of the published port, until it answers.
    Get(&'static str),
    /// Shows a file of the example.
    Show(&'static str),
}

use Action::{Ferry, Get, Show};

const STORE: &[&str] = &[
    "run",
    "-d",
    "--name",
    "tour-store",
    "--network",
    "tour-net",
    "--network-alias",
    "store",
    "-v",
    "tour-hits:/data",
    "localhost/hello",
    "store",
];
const WEB: &[&str] = &[
    "run",
    "-d",
    "--name",
    "tour-web",
    "--network",
    "tour-net",
    "-p",
    "127.0.0.1:PORT:80",
    "localhost/hello",
    "web",
];

/// The steps in their order, after the engine's start.
pub(super) const STEPS: &[Step] = &[
    Step {
        why: "Run a container from the image that is built in",
        action: Ferry(&["run", "--rm", "localhost/hello"]),
    },
    Step {
        why: "Make a network; containers on it find each other by name",
        action: Ferry(&["network", "create", "tour-net"]),
    },
    Step { why: "Make a volume, for data that stays", action: Ferry(&["volume", "create", "tour-hits"]) },
    Step { why: "Run a small store in the background, its data in the volume", action: Ferry(STORE) },
    Step { why: "Run a web page that counts its visits there, and publish its port", action: Ferry(WEB) },
    Step { why: "Visit the page", action: Get("/") },
    Step { why: "See what runs", action: Ferry(&["ps", "--filter", "name=tour-"]) },
    Step {
        why: "Run a second program inside of it",
        action: Ferry(&["exec", "tour-web", "/hello", "inside"]),
    },
    Step { why: "Read what it has printed", action: Ferry(&["logs", "tour-web"]) },
    Step {
        why: "Ask for anything about it, with a template",
        action: Ferry(&[
            "inspect",
            "-f",
            "{{.Name}} is {{.State.Status}}, from {{.Config.Image}}",
            "tour-web",
        ]),
    },
    Step { why: "Throw the store away …", action: Ferry(&["rm", "-f", "tour-store"]) },
    Step { why: "… and run another on the same volume", action: Ferry(STORE) },
    Step { why: "The count goes on", action: Get("/count") },
    Step { why: "Stop the page", action: Ferry(&["stop", "tour-web"]) },
    Step { why: "It is still there, stopped", action: Ferry(&["ps", "-a", "--filter", "name=tour-"]) },
    Step { why: "Remove both", action: Ferry(&["rm", "-f", "tour-web", "tour-store"]) },
    Step { why: "Remove the network", action: Ferry(&["network", "rm", "tour-net"]) },
    Step { why: "Remove the volume", action: Ferry(&["volume", "rm", "tour-hits"]) },
    Step { why: "A page of your own: its Dockerfile", action: Show("Dockerfile") },
    Step { why: "Build an image from it", action: Ferry(&["build", "-t", "tour-page", "APP"]) },
    Step {
        why: "Run it",
        action: Ferry(&["run", "-d", "--name", "tour-page", "-p", "127.0.0.1:PORT:80", "tour-page"]),
    },
    Step { why: "Visit it", action: Get("/") },
    Step { why: "Remove the container", action: Ferry(&["rm", "-f", "tour-page"]) },
    Step { why: "Remove the image", action: Ferry(&["rmi", "tour-page"]) },
    Step { why: "Several containers as one app: the Compose file", action: Show("compose.yaml") },
    Step {
        why: "Build it, start it, and wait until it is healthy",
        action: Ferry(&["compose", "-p", "tour", "-f", "APP/compose.yaml", "up", "-d", "--build", "--wait"]),
    },
    Step {
        why: "See its containers",
        action: Ferry(&["compose", "-p", "tour", "-f", "APP/compose.yaml", "ps"]),
    },
    Step {
        why: "Take it down, its images and data too",
        action: Ferry(&[
            "compose",
            "-p",
            "tour",
            "-f",
            "APP/compose.yaml",
            "down",
            "--volumes",
            "--rmi",
            "local",
        ]),
    },
];

/// The example app, as it lies in `examples/counter`.
pub(super) const APP: &[(&str, &str)] = &[
    ("Dockerfile", include_str!("../../../../../examples/counter/Dockerfile")),
    ("page.html", include_str!("../../../../../examples/counter/page.html")),
    ("compose.yaml", include_str!("../../../../../examples/counter/compose.yaml")),
];

/// What a tour that was broken off may have left.
pub(super) const LEFT_OVER: &[&[&str]] = &[
    &["rm", "-f", "tour-web", "tour-store", "tour-page"],
    &["compose", "-p", "tour", "-f", "APP/compose.yaml", "down", "--volumes", "--rmi", "local"],
    &["network", "rm", "tour-net"],
    &["volume", "rm", "tour-hits"],
];
