//! `socket create ls rm`: sockets for tools that want `docker.sock` and need only a part of it. Ferry's own.

use ferry_api::Call;
use serde_json::{Value as Json, json};

use crate::cli::Command;
use crate::command;
use crate::commands::each;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::output::format::{Choice, List};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `socket create`.
    pub struct CreateFlags {
        allow: Vec<String> = '-' "allow" <list> "Parts of the API: read, logs, lifecycle, exec, files, remove (default \"read\")";
        label: Vec<String> = '-' "label" <list> "Only containers, images, volumes and networks with this label (KEY or KEY=VALUE)";
        mode: String = '-' "mode" <string> "Permissions of the socket file (default \"660\")";
    }
}

crate::flags! {
    /// Flags of `socket ls`.
    pub struct LsFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only display paths";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["socket create"],
        "[OPTIONS] PATH",
        "Serve a part of the API on a socket of its own, for tools that want docker.sock",
        Exactly(1),
        CreateFlags,
        create
    ),
    command!(["socket ls", "socket list"], "[OPTIONS]", "List sockets with limits", None, LsFlags, ls),
    command!(
        ["socket rm", "socket remove"],
        "PATH [PATH...]",
        "Remove sockets with limits",
        AtLeast(1),
        crate::flags::NoFlags,
        rm
    ),
];

static LIST: List = List {
    columns: &[("Path", "SOCKET"), ("Allow", "ALLOW"), ("Labels", "LABELS"), ("Mode", "MODE")],
    default: "{{.Path}}\t{{.Allow}}\t{{.Labels}}\t{{.Mode}}",
    quiet: "{{.Path}}",
};

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// Runs `socket create`.
pub async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let mode = match flags.mode.as_str() {
        "" => 0,
        text => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| (1..=0o777).contains(mode))
            .ok_or_else(|| Failure::new(format!("--mode {text} is no file mode as 660")))?,
    };
    let mut allow: Vec<&str> = flags.allow.iter().flat_map(|list| list.split(',')).collect();
    if allow.is_empty() {
        allow.push("read");
    }
    let path = absolute(&arguments[0]);
    let request = json!({ "Path": path, "Allow": allow, "Labels": flags.label, "Mode": mode });
    session.engine().await?.call(Call::post("/ferry/sockets").json(&request)).await?.discard().await?;
    output::line(&path)?;
    Ok(0)
}

/// Runs `socket ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let found: Vec<Json> = session.engine().await?.call(Call::get("/ferry/sockets")).await?.json().await?;
    let words = |value: &Json| {
        let words = value.as_array().into_iter().flatten().filter_map(Json::as_str);
        Value::text(words.collect::<Vec<_>>().join(","))
    };
    let row = |one: &Json| {
        vec![
            ("Path", Value::text(one["Path"].as_str().unwrap_or_default())),
            ("Allow", words(&one["Allow"])),
            ("Labels", words(&one["Labels"])),
            ("Mode", Value::text(format!("{:o}", one["Mode"].as_u64().unwrap_or_default()))),
        ]
    };
    let choice = Choice { format: flags.format, quiet: flags.quiet, ..Choice::default() };
    LIST.print(&choice, found.iter().map(row).collect())?;
    Ok(0)
}

/// Runs `socket rm`.
pub async fn rm(session: &Session, _flags: crate::flags::NoFlags, arguments: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    each(&arguments, async |path| {
        let call = Call::delete("/ferry/sockets").query("path", absolute(path));
        Ok(client.call(call).await?.discard().await?)
    })
    .await
}
