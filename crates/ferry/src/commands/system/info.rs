//! `info`.

use ferry_api::{Call, system::Info};
use serde_json::{Value as Json, json};

use crate::failure::{Failure, Outcome};
use crate::output::{self, format, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `info`.
    pub struct InfoFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
    }
}

/// Runs `info`.
pub async fn info(session: &Session, flags: InfoFlags, _arguments: Vec<String>) -> Outcome {
    let mut json: Json = session.engine().await?.call(Call::get("/info")).await?.json().await?;
    if !flags.format.is_empty() {
        json["ClientInfo"] = json!({
            "Debug": false,
            "Version": env!("CARGO_PKG_VERSION"),
            "Context": "default",
            "Plugins": [],
            "Warnings": null,
        });
        output::write(format::object(&flags.format, &Value::from(&json))?.as_bytes())?;
        return Ok(0);
    }
    let info: Info = serde_json::from_value(json).map_err(|error| Failure::from_error(&error))?;
    output::write(text(&info).as_bytes())?;
    for warning in info.warnings.iter().flatten() {
        output::note(warning);
    }
    Ok(0)
}

/// The lines of the engine's part.
struct Rows(String);

impl Rows {
    /// A label and its value, where there is one.
    fn row(&mut self, label: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push_str(&format!(" {label}: {value}\n"));
        }
    }

    /// A head and one line for each item, where there are any.
    fn list(&mut self, head: &str, items: impl IntoIterator<Item = String>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_some() {
            self.0.push_str(&format!(" {head}:\n"));
        }
        for item in items {
            self.0.push_str(&format!("  {item}\n"));
        }
    }
}

fn text(info: &Info) -> String {
    let mut rows = Rows(format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    ));
    rows.row("Containers", info.containers);
    rows.row(" Running", info.containers_running);
    rows.row(" Paused", info.containers_paused);
    rows.row(" Stopped", info.containers_stopped);
    rows.row("Images", info.images);
    rows.row("Server Version", &info.server_version);
    rows.row("Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        rows.row(&format!(" {name}"), value);
    }
    rows.row("Logging Driver", &info.logging_driver);
    rows.row("Cgroup Driver", &info.cgroup_driver);
    rows.row("Cgroup Version", &info.cgroup_version);
    let plugins =
        [("Volume", &info.plugins.volume), ("Network", &info.plugins.network), ("Log", &info.plugins.log)];
    rows.list("Plugins", plugins.map(|(kind, names)| format!("{kind}: {}", names.join(" "))));
    rows.row("Swarm", &info.swarm.local_node_state);
    rows.row("Runtimes", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
    rows.row("Default Runtime", &info.default_runtime);
    rows.row("Init Binary", &info.init_binary);
    rows.list("Security Options", info.security_options.iter().map(|option| security_option(option)));
    rows.row("Kernel Version", &info.kernel_version);
    rows.row("Operating System", &info.operating_system);
    rows.row("OSType", &info.os_type);
    rows.row("Architecture", &info.architecture);
    rows.row("CPUs", info.ncpu);
    rows.row("Total Memory", units::binary_size(info.mem_total as f64));
    rows.row("Name", &info.name);
    rows.row("ID", &info.id);
    rows.row("Docker Root Dir", &info.docker_root_dir);
    rows.row("Debug Mode", info.debug);
    rows.row("HTTP Proxy", &info.http_proxy);
    rows.row("HTTPS Proxy", &info.https_proxy);
    rows.row("No Proxy", &info.no_proxy);
    rows.list("Labels", info.labels.iter().cloned());
    rows.row("Experimental", info.experimental_build);
    if let Some(registries) = &info.registry_config {
        rows.list("Insecure Registries", registries.insecure_registry_cidrs.iter().cloned());
        rows.list("Registry Mirrors", registries.mirrors.iter().flatten().cloned());
    }
    rows.row("Live Restore Enabled", info.live_restore_enabled);
    rows.row(
        "Firewall Backend",
        info.firewall_backend.as_ref().map(|firewall| firewall.driver.clone()).unwrap_or_default(),
    );
    rows.0.push('\n');
    rows.0
}

/// `name=seccomp,profile=builtin` on two lines, the second further in.
fn security_option(option: &str) -> String {
    let mut parts = option.split(',');
    let mut text = parts.next().unwrap_or_default().trim_start_matches("name=").to_owned();
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        let key: String =
            key.chars().take(1).flat_map(char::to_uppercase).chain(key.chars().skip(1)).collect();
        text.push_str(&format!("\n   {key}: {value}"));
    }
    text
}
