//! Containers of `run`: one service's definition, changed by the command line, used once.

use super::engine::{Engine, trying};
use super::request::{archive, complete_request, primary_only, set_links};
use super::{ApplyError, Progress};
use crate::container::{create_request, endpoints, file_contents};
use crate::labels;
use crate::model::{Mount, OptionalTexts, Port};
use crate::target::Target;
use ferry_api::container::RestartPolicy;
use ferry_api::network::ConnectRequest;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What the command line changes.
#[derive(Clone, Debug, Default)]
pub struct OneOff {
    /// The service.
    pub service: String,
    /// Its command, where one is given.
    pub command: Option<Vec<String>>,
    /// Its entrypoint, where one is given.
    pub entrypoint: Option<Vec<String>>,
    /// Variables set beside the service's.
    pub environment: OptionalTexts,
    /// Labels set beside the service's.
    pub labels: BTreeMap<String, String>,
    /// User.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Mounts beside the service's.
    pub volumes: Vec<Mount>,
    /// Ports published.
    pub ports: Vec<Port>,
    /// The service's own ports too.
    pub service_ports: bool,
    /// The service's name on its networks.
    pub use_aliases: bool,
    /// Name, where one is given.
    pub name: Option<String>,
    /// Removed at its end.
    pub remove: bool,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub interactive: bool,
    /// Nobody is attached.
    pub detach: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
}

/// The container that was created.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOffContainer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Creates the container of a `run`.
pub async fn create_one_off(
    engine: &Engine,
    target: &Target,
    ids: &dyn Fn(&str) -> Vec<String>,
    options: &OneOff,
    progress: &dyn Progress,
) -> Result<OneOffContainer, ApplyError> {
    let slug = slug(&options.service);
    let separator = target.separator;
    let name = options.name.clone().unwrap_or_else(|| {
        format!(
            "{}{separator}{}{separator}run{separator}{}",
            target.project.name,
            options.service,
            &slug[..12]
        )
    });
    let changed = changed_service(target, options)?;
    let image = target.image(&options.service);
    let Some(mut wanted) = target.wanted(&options.service, &image, &name, None) else {
        return Err(ApplyError::Setting(format!("no such service: {}", options.service)));
    };
    wanted.service = &changed;
    wanted.aliases = options.use_aliases;
    let mut request = create_request(&wanted);
    request.config.attach_stdin = options.interactive && !options.detach;
    request.config.open_stdin = options.interactive;
    request.config.stdin_once = options.interactive && !options.detach;
    request.config.labels.get_or_insert_default().insert(labels::SLUG.to_owned(), slug);
    if let Some(host) = &mut request.host_config {
        host.restart_policy = RestartPolicy::default();
        host.auto_remove = options.remove && options.detach;
    }
    let names = |service: &str| {
        let count = ids(service).len() as u32;
        (1..=count).map(|number| target.container_name(service, number)).collect()
    };
    set_links(&mut request, &changed, &target.project.name, &names);
    complete_request(&mut request, &changed, &|service| {
        ids(service).into_iter().next().ok_or_else(|| {
            ApplyError::Setting(format!("service \"{service}\" has no container to share with"))
        })
    })?;
    let contents = file_contents(&wanted, &|path| std::fs::read(path)).map_err(ApplyError::Setting)?;
    let all = endpoints(&wanted);
    let later =
        if engine.takes_several_networks() { Vec::new() } else { primary_only(&mut request, &wanted) };
    let platform = changed.platform.clone().unwrap_or_default();
    let created =
        trying(format!("cannot create container {name}"), engine.create(&name, &platform, &request).await)?;
    for warning in &created.warnings {
        progress.note(&format!("{name}: {warning}"));
    }
    for network in later {
        let request =
            ConnectRequest { container: created.id.clone(), endpoint_config: all.get(&network).cloned() };
        trying(format!("cannot connect {name} to {network}"), engine.connect(&network, &request).await)?;
    }
    if !contents.is_empty() {
        let archive = archive(&contents).map_err(|error| ApplyError::Setting(format!("{name}: {error}")))?;
        let sent = engine.put_archive(&created.id, "/", archive).await;
        trying(format!("cannot copy secrets and configs into {name}"), sent)?;
    }
    Ok(OneOffContainer { id: created.id, name })
}

fn changed_service(target: &Target, options: &OneOff) -> Result<crate::model::Service, ApplyError> {
    let Some(service) = target.services.get(&options.service) else {
        return Err(ApplyError::Setting(format!("no such service: {}", options.service)));
    };
    let mut changed = service.clone();
    changed.container_name = None;
    changed.tty = options.tty;
    changed.stdin_open = options.interactive;
    if !options.service_ports {
        changed.ports.clear();
    }
    changed.ports.extend(options.ports.iter().cloned());
    changed.volumes.retain(|mount| !options.volumes.iter().any(|added| added.target == mount.target));
    changed.volumes.extend(options.volumes.iter().cloned());
    changed.environment.extend(options.environment.clone());
    changed.labels.extend(options.labels.clone());
    changed.cap_add.extend(options.cap_add.iter().cloned());
    changed.cap_drop.extend(options.cap_drop.iter().cloned());
    if let Some(entrypoint) = &options.entrypoint {
        changed.entrypoint = Some(entrypoint.clone());
        // The service's command was meant for its own entrypoint.
        changed.command = None;
    }
    if let Some(command) = &options.command {
        changed.command = Some(command.clone());
    }
    changed.user = options.user.clone().or(changed.user);
    changed.working_dir = options.working_dir.clone().or(changed.working_dir);
    Ok(changed)
}

/// 64 hexadecimal digits no other container has: from the time, the process and the service.
fn slug(service: &str) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    hex::encode(Sha256::digest(format!("{now} {} {service}", std::process::id()).as_bytes()))
}
