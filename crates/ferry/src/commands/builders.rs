//! `builder ls`, `inspect` and the rest of buildx's commands about builders. There is one builder, the engine itself.

use ferry_api::Call;
use serde_json::Value as Json;

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::output::format::{Choice, List, Row};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `builder ls`.
    pub struct LsFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'json' or 'TEMPLATE'";
        no_trunc: bool = '-' "no-trunc" "Do not truncate output";
    }
}

crate::flags! {
    /// Flags of `builder inspect`.
    pub struct InspectFlags {
        bootstrap: bool = '-' "bootstrap" "Ensure that the builder runs before it is told of";
        builder: String = '-' "builder" <string> "Override the configured builder instance (default: the engine itself)";
    }
}

crate::flags! {
    /// Flags of `builder use`.
    pub struct UseFlags {
        default: bool = '-' "default" "Set the builder as default for the current context";
        global: bool = '-' "global" "Keep the builder over changes of the context";
    }
}

crate::flags! {
    /// Flags of `builder create`.
    pub struct CreateFlags {
        append: bool = '-' "append" "Append a node to a builder";
        bootstrap: bool = '-' "bootstrap" "Boot the builder after its creation";
        buildkitd_config: String = '-' "buildkitd-config" <string> "BuildKit daemon config file";
        buildkitd_flags: String = '-' "buildkitd-flags" <string> "BuildKit daemon flags";
        driver: String = '-' "driver" <string> "Driver to use";
        driver_opt: Vec<String> = '-' "driver-opt" <list> "Options for the driver";
        leave: bool = '-' "leave" "Remove a node from a builder";
        name: String = '-' "name" <string> "Builder instance name";
        node: String = '-' "node" <string> "Create or modify a node with the given name";
        platform: Vec<String> = '-' "platform" <list> "Fixed platforms for the current node";
        use_: bool = '-' "use" "Set the builder as the one in use";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(["builder ls", "buildx ls"], "[OPTIONS]", "List builders", None, LsFlags, ls),
    command!(
        ["builder inspect", "buildx inspect"],
        "[OPTIONS] [NAME]",
        "Tell of a builder",
        Between(0, 1),
        InspectFlags,
        inspect
    ),
    command!(
        ["builder use", "buildx use"],
        "[OPTIONS] NAME",
        "Set the builder to use (there is one: default)",
        Exactly(1),
        UseFlags,
        use_builder
    ),
    command!(
        ["builder create", "buildx create"],
        "[OPTIONS] [CONTEXT|ENDPOINT]",
        "Create a builder (refused: the engine itself builds)",
        Between(0, 1),
        CreateFlags,
        create
    ),
    command!(
        ["builder version", "buildx version"],
        "",
        "Show the version of the builder",
        None,
        NoFlags,
        version
    ),
];

/// The name of the only builder.
const NAME: &str = "default";

static LIST: List = List {
    columns: &[
        ("Name", "NAME/NODE"),
        ("DriverEndpoint", "DRIVER/ENDPOINT"),
        ("Status", "STATUS"),
        ("Buildkit", "BUILDKIT"),
        ("Platforms", "PLATFORMS"),
    ],
    default: "{{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}",
    quiet: "",
};

/// Refuses a builder that is not there.
pub fn check(name: &str) -> Result<(), Failure> {
    match name {
        "" | NAME => Ok(()),
        other => Err(Failure::new(format!("no builder {other:?} found"))
            .hint("the engine itself builds; its name is \"default\"")),
    }
}

/// What the engine says of itself.
struct Node {
    version: String,
    platforms: Vec<String>,
}

impl Node {
    async fn ask(session: &Session) -> Result<Self, Failure> {
        let engine = session.engine().await?;
        let told: Json = engine.call(Call::get("/version")).await?.json().await?;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let mut platforms = vec![format!("{}/{}", text("Os"), text("Arch"))];
        if session.target()?.host.unix_path().is_some() {
            platforms.extend(emulated());
        }
        Ok(Self { version: text("Version"), platforms })
    }
}

/// Platforms whose programs this machine's kernel hands to an emulator.
fn emulated() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("enabled")))
        .filter_map(|entry| platform_of(entry.file_name().to_str()?.strip_prefix("qemu-")?))
        .collect();
    found.sort();
    found
}

/// QEMU's name of an architecture as a platform.
fn platform_of(name: &str) -> Option<String> {
    let architecture = match name {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        "i386" => "386",
        "arm" => "arm/v7",
        "loongarch64" => "loong64",
        "mips64el" => "mips64le",
        "mips64" | "ppc64le" | "riscv64" | "s390x" => name,
        _ => return None,
    };
    Some(format!("linux/{architecture}"))
}

/// Runs `builder ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let node = Node::ask(session).await?;
    let row = |name: &str, place: &str, node: Option<&Node>| -> Row {
        let version = node.map_or(String::new(), |node| node.version.clone());
        vec![
            ("Name", Value::text(name)),
            ("DriverEndpoint", Value::text(place)),
            ("Status", Value::text(if node.is_some() { "running" } else { "" })),
            ("Buildkit", Value::text(version)),
            ("Platforms", Value::text(node.map_or(String::new(), |node| node.platforms.join(", ")))),
            ("Current", Value::Bool(node.is_none())),
            ("Error", Value::text("")),
        ]
    };
    let rows = vec![row("default*", "ferry", None), row(" \\_ default", " \\_ default", Some(&node))];
    LIST.print(&Choice { format: flags.format, ..Choice::default() }, rows)?;
    Ok(0)
}

/// Runs `builder inspect`.
pub async fn inspect(session: &Session, flags: InspectFlags, names: Vec<String>) -> Outcome {
    check(&flags.builder)?;
    check(names.first().map_or("", String::as_str))?;
    let node = Node::ask(session).await?;
    output::line(&format!(
        "Name:   {NAME}\nDriver: ferry\n\nNodes:\nName:             {NAME}\nEndpoint:         {NAME}\nStatus:           running\n\
         BuildKit version: {}\nPlatforms:        {}",
        node.version,
        node.platforms.join(", ")
    ))?;
    Ok(0)
}

/// Runs `builder use`.
pub async fn use_builder(_session: &Session, _flags: UseFlags, names: Vec<String>) -> Outcome {
    check(&names[0])?;
    Ok(0)
}

/// Runs `builder create`.
pub async fn create(session: &Session, _flags: CreateFlags, _arguments: Vec<String>) -> Outcome {
    Err(Failure::new("there are no builders beside the engine itself, which builds for several platforms and keeps caches elsewhere")
        .hint(format!("leave this command out: {} build --platform linux/amd64,linux/arm64 .", session.called)))
}

/// Runs `builder version`.
pub async fn version(_session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    output::line(concat!("ferry ", env!("CARGO_PKG_VERSION")))?;
    Ok(0)
}
