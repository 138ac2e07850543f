//! What a request for a container needs beyond its service: ids and names that only the running project has, and
//! files that only this machine has.

use super::ApplyError;
use crate::container::primary_network;
use ferry_api::container::CreateRequest;

/// `links` and `external_links`: other containers under names of one's own, on every network of the container.
/// A linked container is known by its alias, by its name without the project, and by its whole name.
pub(super) fn set_links(
    request: &mut CreateRequest,
    service: &crate::model::Service,
    project: &str,
    names_of: &dyn Fn(&str) -> Vec<String>,
) {
    let mut links = Vec::new();
    for link in &service.links {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        for container in names_of(name) {
            let short =
                container.strip_prefix(project).map_or("", |rest| rest.trim_start_matches(['-', '_']));
            for known_as in [alias, short, &container] {
                if !known_as.is_empty() {
                    links.push(format!("{container}:{known_as}"));
                }
            }
        }
    }
    for link in &service.external_links {
        let (container, alias) = link.split_once(':').unwrap_or((link, link));
        links.push(format!("{container}:{alias}"));
    }
    let endpoints = request.networking_config.as_mut().and_then(|config| config.endpoints_config.as_mut());
    for settings in endpoints.into_iter().flat_map(|map| map.values_mut()).flatten() {
        if !links.is_empty() {
            settings.links = Some(links.clone());
        }
    }
}

/// Fills in container ids of shared namespaces, and files the engine cannot read.
pub(super) fn complete_request(
    request: &mut CreateRequest,
    service: &crate::model::Service,
    id_of: &dyn Fn(&str) -> Result<String, ApplyError>,
) -> Result<(), ApplyError> {
    let Some(host) = &mut request.host_config else { return Ok(()) };
    for mode in [&mut host.network_mode, &mut host.ipc_mode, &mut host.pid_mode, &mut host.uts_mode] {
        if let Some(name) = mode.strip_prefix("service:") {
            *mode = format!("container:{}", id_of(name)?);
        }
    }
    let mut from = Vec::new();
    for text in &service.volumes_from {
        match text.strip_prefix("container:") {
            Some(container) => from.push(container.to_owned()),
            None => {
                let (name, mode) = text.split_once(':').unwrap_or((text, ""));
                let id = id_of(name)?;
                from.push(if mode.is_empty() { id } else { format!("{id}:{mode}") });
            }
        }
    }
    host.volumes_from = (!from.is_empty()).then_some(from);
    for option in host.security_opt.iter_mut().flatten() {
        if let Some(path) = option.strip_prefix("seccomp=").filter(|path| path.starts_with('/')) {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ApplyError::Setting(format!("cannot read seccomp profile {path}: {error}"))
            })?;
            *option = format!("seccomp={text}");
        }
    }
    Ok(())
}

/// Leaves only the primary network in a request; the real names of the others are given back.
pub(super) fn primary_only(request: &mut CreateRequest, wanted: &crate::container::Wanted) -> Vec<String> {
    let Some(primary) = primary_network(&wanted.service.networks) else { return Vec::new() };
    let primary = wanted.networks.get(primary).map_or(primary, |network| network.name.as_str());
    let config = request.networking_config.as_mut().and_then(|config| config.endpoints_config.as_mut());
    let Some(config) = config else { return Vec::new() };
    let others = config.keys().filter(|name| *name != primary).cloned().collect();
    config.retain(|name, _| name == primary);
    others
}

/// The files of secrets and configs as an archive from the root.
pub(super) fn archive(contents: &[crate::container::FileContent]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.uid);
        header.set_gid(file.gid);
        builder.append_data(&mut header, file.target.trim_start_matches('/'), file.content.as_slice())?;
    }
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Service;
    use ferry_api::container::{EndpointSettings, NetworkingConfig};

    #[test]
    fn links_name_containers() {
        let networks = BTreeMap::from([("app_default".to_owned(), Some(EndpointSettings::default()))]);
        let mut request = CreateRequest {
            networking_config: Some(NetworkingConfig { endpoints_config: Some(networks) }),
            ..CreateRequest::default()
        };
        let service = Service {
            links: vec!["db:database".to_owned()],
            external_links: vec!["other".to_owned()],
            ..Service::default()
        };
        set_links(&mut request, &service, "app", &|name| vec![format!("app-{name}-1")]);
        let endpoints = request.networking_config.unwrap().endpoints_config.unwrap();
        assert_eq!(
            endpoints["app_default"].as_ref().unwrap().links.as_deref().unwrap(),
            ["app-db-1:database", "app-db-1:db-1", "app-db-1:app-db-1", "other:other"]
        );
    }

    #[test]
    fn archives_hold_owner_and_mode() {
        let content = crate::container::FileContent {
            target: "/run/secrets/s".to_owned(),
            content: b"x".to_vec(),
            uid: 5,
            gid: 6,
            mode: 0o400,
        };
        let bytes = archive(&[content]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/secrets/s"));
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()), (5, 6, 0o400));
    }
}
