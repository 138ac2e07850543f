//! Hooks: commands run before and after a start, and before a stop.

use super::engine::{Engine, trying};
use super::request::primary_only;
use super::{ApplyError, Phase, Progress};
use crate::container::{create_request, endpoints};
use crate::labels;
use crate::model::Hook;
use crate::target::Target;
use ferry_api::container::RestartPolicy;
use ferry_api::exec::ExecCreateRequest;
use ferry_api::network::ConnectRequest;

/// Runs hooks inside a running container, one after another.
pub(super) async fn run_inside(
    engine: &Engine,
    container: &str,
    service: &str,
    kind: &'static str,
    hooks: &[Hook],
) -> Result<(), ApplyError> {
    for hook in hooks {
        let request = ExecCreateRequest {
            user: hook.user.clone().unwrap_or_default(),
            privileged: hook.privileged,
            attach_stdout: true,
            attach_stderr: true,
            env: Some(hook.variables()),
            working_dir: hook.working_dir.clone().unwrap_or_default(),
            cmd: Some(hook.command.clone()),
            ..ExecCreateRequest::default()
        };
        let code = trying(
            format!("{kind} hook of service \"{service}\""),
            engine.exec_silently(container, &request).await,
        )?;
        if code != 0 {
            return Err(ApplyError::Hook { hook: kind, service: service.to_owned(), code });
        }
    }
    Ok(())
}

/// Runs `pre_start` hooks of a service, each in a container of its own on the service's networks and with the
/// volumes of the container that is about to start: those of that replica, where one is named, else those that run
/// once for all replicas.
pub(super) async fn pre_start(
    engine: &Engine,
    target: &Target,
    service: &str,
    container: &str,
    replica: Option<&str>,
    progress: &dyn Progress,
) -> Result<(), ApplyError> {
    let Some(model) = target.services.get(service) else { return Ok(()) };
    let wanted_hooks =
        model.pre_start.iter().enumerate().filter(|(_, hook)| hook.per_replica == replica.is_some());
    for (index, hook) in wanted_hooks {
        let separator = target.separator;
        let owner = match replica {
            Some(replica) => replica.to_owned(),
            None => format!("{}{separator}{service}", target.project.name),
        };
        let name = format!("{owner}{separator}pre_start{separator}{}", index + 1);
        let subject = format!("Hook {name}");
        progress.state(&subject, "Running", Phase::Working);
        let image = hook.image.clone().unwrap_or_else(|| target.image(service));
        let Some(wanted) = target.wanted(service, &image, &name, None) else { return Ok(()) };
        let mut request = create_request(&wanted);
        request.config.cmd = Some(hook.command.clone());
        request.config.healthcheck = None;
        request.config.exposed_ports = None;
        request.config.env.get_or_insert_default().extend(hook.variables());
        if let Some(user) = &hook.user {
            request.config.user = user.clone();
        }
        if let Some(directory) = &hook.working_dir {
            request.config.working_dir = directory.clone();
        }
        request.config.labels.get_or_insert_default().insert(labels::HOOK.to_owned(), "pre_start".to_owned());
        if let Some(host) = &mut request.host_config {
            host.port_bindings = None;
            host.restart_policy = RestartPolicy::default();
            host.privileged = hook.privileged;
            if host.network_mode.starts_with("service:") {
                host.network_mode = format!("container:{container}");
            }
            (host.binds, host.volumes_from) = (None, Some(vec![container.to_owned()]));
            host.mounts.clear();
        }
        let all = endpoints(&wanted);
        let later =
            if engine.takes_several_networks() { Vec::new() } else { primary_only(&mut request, &wanted) };
        // One left behind by a client that was killed.
        trying(format!("cannot remove {name}"), engine.remove(&name, true, true).await)?;
        let created = trying(format!("cannot create {name}"), engine.create(&name, "", &request).await)?;
        for network in later {
            let request =
                ConnectRequest { container: created.id.clone(), endpoint_config: all.get(&network).cloned() };
            trying(format!("cannot connect {name} to {network}"), engine.connect(&network, &request).await)?;
        }
        trying(format!("cannot start {name}"), engine.start(&created.id).await)?;
        let code = trying(format!("cannot wait for {name}"), engine.wait(&created.id).await)?;
        if code != 0 {
            progress.state(&subject, "Failed", Phase::Failed);
            let container = trying(format!("cannot inspect {name}"), engine.inspect(&created.id).await)?;
            let headline = format!("pre_start hook of service \"{service}\" exited with {code}");
            return Err(super::health::report(engine, &container, headline, &[]).await);
        }
        trying(format!("cannot remove {name}"), engine.remove(&created.id, true, true).await)?;
        progress.state(&subject, "Completed", Phase::Done);
    }
    Ok(())
}
