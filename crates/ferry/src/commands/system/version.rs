//! `version`.

use ferry_api::{API_VERSION, Call, system::Version};
use serde_json::{Map, Value as Json, json};

use crate::failure::{Failure, Outcome};
use crate::output::{self, format};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `version`.
    pub struct VersionFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
    }
}

/// Runs `version`.
pub async fn version(session: &Session, flags: VersionFlags, _arguments: Vec<String>) -> Outcome {
    let server = fetch(session).await;
    let (server, failure) = match server {
        Ok(version) => (Some(version), None),
        Err(failure) => (None, Some(failure)),
    };
    let api_version = match &server {
        Some(server) if server.api_version.as_str() < API_VERSION => server.api_version.clone(),
        _ => API_VERSION.to_owned(),
    };
    if flags.format.is_empty() {
        output::write(text(session, &api_version, server.as_ref()).as_bytes())?;
    } else {
        let object = object(session, &api_version, server.as_ref())?;
        let text = match flags.format.as_str() {
            "json" | "{{json .}}" => format!("{object}\n"),
            format => format::object(format, &with_go_names(&object))?,
        };
        output::write(text.as_bytes())?;
    }
    failure.map_or(Ok(0), Err)
}

async fn fetch(session: &Session) -> Result<Version, Failure> {
    Ok(session.engine().await?.call(Call::get("/version")).await?.json().await?)
}

fn client_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Docker's templates name two fields by Go's names and not by JSON's.
fn with_go_names(object: &Json) -> Value {
    let mut object = object.clone();
    for side in ["Client", "Server"] {
        if let Some(fields) = object[side].as_object_mut() {
            let version = fields.get("ApiVersion").cloned().unwrap_or_default();
            fields.insert("APIVersion".into(), version);
        }
    }
    Value::from(&object)
}

fn object(session: &Session, api_version: &str, server: Option<&Version>) -> Result<Json, Failure> {
    let name = if session.docker_texts { "Docker" } else { "Ferry" };
    let client = json!({
        "Platform": {"Name": name},
        "Version": client_version(),
        "ApiVersion": api_version,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "BuildTime": "",
        "Context": "default",
    });
    let mut all = Map::new();
    all.insert("Client".into(), client);
    let server = server.map(serde_json::to_value).transpose().map_err(|error| Failure::from_error(&error))?;
    all.insert("Server".into(), server.unwrap_or(Json::Null));
    Ok(Json::Object(all))
}

fn text(session: &Session, api_version: &str, server: Option<&Version>) -> String {
    let name = if session.docker_texts { "Docker" } else { "Ferry" };
    let mut text = format!(
        "Client:\n Version:           {}\n API version:       {api_version}\n OS/Arch:           linux/{}\n Context:           default\n",
        client_version(),
        architecture(),
    );
    let Some(server) = server else { return text };
    let title = if server.platform.name.is_empty() { name } else { &server.platform.name };
    text.push_str(&format!("\nServer: {title}\n"));
    for component in &server.components {
        text.push_str(&format!(" {}:\n", component.name));
        let mut row = |label: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("  {:<17} {value}\n", format!("{label}:")));
            }
        };
        row("Version", &component.version);
        let details = &component.details;
        let get = |key: &str| details.get(key).map(String::as_str).unwrap_or_default();
        if !get("ApiVersion").is_empty() {
            row("API version", &format!("{} (minimum version {})", get("ApiVersion"), get("MinAPIVersion")));
        }
        row("Git commit", get("GitCommit"));
        row("Built", get("BuildTime"));
        if !get("Os").is_empty() {
            row("OS/Arch", &format!("{}/{}", get("Os"), get("Arch")));
        }
    }
    text
}
