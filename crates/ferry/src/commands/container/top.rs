//! `top` and `port`.

use ferry_api::Call;
use ferry_api::container::{PortBinding, Top};

use super::{inspect, missing, path};
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::{self, table};
use crate::session::Session;

/// Runs `top`.
pub async fn top(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let (name, options) = arguments.split_first().expect("the table wants at least one argument");
    let client = session.engine().await?;
    let call = Call::get(path(name, "/top")).query_text("ps_args", &options.join(" "));
    let top: Top = client.call(call).await.map_err(|error| missing(error, name))?.json().await?;
    let mut text = top.titles.join("\t");
    for process in &top.processes {
        text.push('\n');
        text.push_str(&process.join("\t"));
    }
    output::write(table::align_with(&text, 20, 3).as_bytes())?;
    Ok(0)
}

/// Runs `port`.
pub async fn port(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let name = &arguments[0];
    let container = inspect(client, name).await?;
    let ports = container.network_settings.ports;
    let address = |binding: &PortBinding| match binding.host_ip.contains(':') {
        true => format!("[{}]:{}", binding.host_ip, binding.host_port),
        false => format!("{}:{}", binding.host_ip, binding.host_port),
    };
    let Some(wanted) = arguments.get(1) else {
        if ports.values().flatten().next().is_none() && !ports.is_empty() {
            let exposed: Vec<&str> = ports.keys().map(String::as_str).collect();
            output::note(&only_exposed(name, &exposed.join(", ")));
        }
        for (port, bindings) in &ports {
            for binding in bindings.iter().flatten() {
                output::line(&format!("{port} -> {}", address(binding)))?;
            }
        }
        return Ok(0);
    };
    let port = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
    match ports.get(&port) {
        Some(Some(bindings)) if !bindings.is_empty() => {
            for binding in bindings {
                output::line(&address(binding))?;
            }
            Ok(0)
        }
        found => {
            let failure = Failure::new(format!("Error: No public port '{port}' published for {name}"));
            Err(failure.hint(match found {
                Some(_) => only_exposed(name, &port),
                None => format!("publish it while it runs: ferry update -p {} {name}", plain(&port)),
            }))
        }
    }
}

/// Why a port that an image or `--expose` names cannot be reached through the host.
fn only_exposed(name: &str, ports: &str) -> String {
    let first = ports.split(", ").next().unwrap_or(ports);
    format!(
        "{ports} of {name} is exposed, which only says that it is used there; \
         to reach it through the host: ferry update -p {} {name}",
        plain(first)
    )
}

/// `80/tcp` as `-p` takes it.
fn plain(port: &str) -> &str {
    port.strip_suffix("/tcp").unwrap_or(port)
}
