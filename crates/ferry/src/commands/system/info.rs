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

fn text(info: &Info) -> String {
    let mut text = format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut row = |label: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!(" {label}: {value}\n"));
        }
    };
    row("Containers", info.containers.to_string());
    row(" Running", info.containers_running.to_string());
    row(" Paused", info.containers_paused.to_string());
    row(" Stopped", info.containers_stopped.to_string());
    row("Images", info.images.to_string());
    row("Server Version", info.server_version.clone());
    row("Storage Driver", info.driver.clone());
    for [name, value] in &info.driver_status {
        row(&format!(" {name}"), value.clone());
    }
    row("Logging Driver", info.logging_driver.clone());
    row("Cgroup Driver", info.cgroup_driver.clone());
    row("Cgroup Version", info.cgroup_version.clone());
    let plugins =
        [("Volume", &info.plugins.volume), ("Network", &info.plugins.network), ("Log", &info.plugins.log)];
    for (kind, names) in plugins {
        row(&format!("Plugins {kind}"), names.join(" "));
    }
    row("Swarm", info.swarm.local_node_state.clone());
    row("Runtimes", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
    row("Default Runtime", info.default_runtime.clone());
    row("Init Binary", info.init_binary.clone());
    if !info.security_options.is_empty() {
        let names: Vec<&str> = info
            .security_options
            .iter()
            .map(|option| option.split(',').next().unwrap_or(option).trim_start_matches("name="))
            .collect();
        row("Security Options", names.join(" "));
    }
    row("Kernel Version", info.kernel_version.clone());
    row("Operating System", info.operating_system.clone());
    row("OSType", info.os_type.clone());
    row("Architecture", info.architecture.clone());
    row("CPUs", info.ncpu.to_string());
    row("Total Memory", units::binary_size(info.mem_total as f64));
    row("Name", info.name.clone());
    row("ID", info.id.clone());
    row("Docker Root Dir", info.docker_root_dir.clone());
    row("Debug Mode", info.debug.to_string());
    row("HTTP Proxy", info.http_proxy.clone());
    row("HTTPS Proxy", info.https_proxy.clone());
    row("No Proxy", info.no_proxy.clone());
    row("Labels", info.labels.join(" "));
    row("Experimental", info.experimental_build.to_string());
    row("Live Restore Enabled", info.live_restore_enabled.to_string());
    row(
        "Firewall Backend",
        info.firewall_backend.as_ref().map(|firewall| firewall.driver.clone()).unwrap_or_default(),
    );
    text
}
