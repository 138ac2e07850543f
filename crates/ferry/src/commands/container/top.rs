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
        _ => Err(Failure::new(format!("Error: No public port '{port}' published for {name}"))),
    }
}
