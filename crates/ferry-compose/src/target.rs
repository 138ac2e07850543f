//! The wanted state of a project, typed and complete: what the plan compares with what is found.

use crate::container::Wanted;
use crate::docker_hash;
use crate::hash;
use crate::model::{Config, Network, Service, Volume};
use crate::project::{ModelError, Project};
use std::collections::BTreeMap;

/// A project with everything a plan needs to know of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The project.
    pub project: Project,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Networks by key.
    pub networks: BTreeMap<String, Network>,
    /// Volumes by key.
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets by key.
    pub secrets: BTreeMap<String, Config>,
    /// Configs by key.
    pub configs: BTreeMap<String, Config>,
    /// Hashes of services, by name.
    pub hashes: BTreeMap<String, String>,
    /// Hashes of networks, by key.
    pub network_hashes: BTreeMap<String, String>,
    /// Hashes of volumes, by key.
    pub volume_hashes: BTreeMap<String, String>,
    /// The same as Docker Compose has them.
    pub docker_hashes: DockerHashes,
    /// Ids of local images, by the name services use.
    pub image_ids: BTreeMap<String, String>,
    /// Between the parts of names: `-`, or `_` with `--compatibility`.
    pub separator: char,
}

/// Hashes by Docker Compose's algorithm.
#[derive(Clone, Debug, Default)]
pub struct DockerHashes {
    /// Of services, by name.
    pub services: BTreeMap<String, String>,
    /// Of networks, by key.
    pub networks: BTreeMap<String, String>,
    /// Of volumes, by key.
    pub volumes: BTreeMap<String, String>,
}

impl Target {
    /// Types a project.
    pub fn new(project: Project, separator: char) -> Result<Self, ModelError> {
        let hashes = |section: &str, hash: fn(&crate::tree::Node) -> String| {
            project.section(section).map(|(name, node)| (name.to_owned(), hash(node))).collect()
        };
        Ok(Target {
            services: project.services()?,
            networks: project.networks()?,
            volumes: project.volumes()?,
            secrets: project.secrets()?,
            configs: project.configs()?,
            hashes: hashes("services", hash::service),
            network_hashes: hashes("networks", hash::resource),
            volume_hashes: hashes("volumes", hash::resource),
            docker_hashes: DockerHashes {
                services: hashes("services", docker_hash::service),
                networks: hashes("networks", docker_hash::network),
                volumes: hashes("volumes", docker_hash::volume),
            },
            image_ids: BTreeMap::new(),
            separator,
            project,
        })
    }

    /// The image a service runs.
    pub fn image(&self, service: &str) -> String {
        match self.services.get(service) {
            Some(model) => self.project.image_of(service, model, self.separator),
            None => String::new(),
        }
    }

    /// A container's name.
    pub fn container_name(&self, service: &str, number: u32) -> String {
        if let Some(name) = self.services.get(service).and_then(|model| model.container_name.clone()) {
            return name;
        }
        let separator = self.separator;
        format!("{}{separator}{service}{separator}{number}", self.project.name)
    }

    /// What one container is to be.
    pub fn wanted<'a>(
        &'a self,
        name: &'a str,
        image: &'a str,
        container_name: &'a str,
        number: Option<u32>,
    ) -> Option<Wanted<'a>> {
        Some(Wanted {
            project: &self.project,
            name,
            service: self.services.get(name)?,
            image,
            image_id: self.image_ids.get(image).map(String::as_str),
            hash: self.hashes.get(name).map_or("", String::as_str),
            docker_hash: self.docker_hashes.services.get(name).map_or("", String::as_str),
            container_name,
            number,
            networks: &self.networks,
            volumes: &self.volumes,
            secrets: &self.secrets,
            configs: &self.configs,
            aliases: number.is_some(),
        })
    }

    /// Services in an order in which each comes after what it depends on.
    pub fn in_dependency_order(&self) -> Vec<&str> {
        let mut order = Vec::new();
        for name in self.services.keys() {
            self.visit(name, &mut order);
        }
        order
    }

    fn visit<'a>(&'a self, name: &'a str, order: &mut Vec<&'a str>) {
        if order.contains(&name) {
            return;
        }
        let Some((name, service)) = self.services.get_key_value(name) else { return };
        for dependency in service.depends_on.keys() {
            self.visit(dependency, order);
        }
        if !order.contains(&name.as_str()) {
            order.push(name);
        }
    }

    /// The named services with what they depend on; all of them when none is named.
    pub fn selected(&self, named: &[String], with_dependencies: bool) -> Vec<&str> {
        let mut wanted: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = named.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            let Some((name, service)) = self.services.get_key_value(name) else { continue };
            if wanted.contains(&name.as_str()) {
                continue;
            }
            wanted.push(name);
            if with_dependencies {
                open.extend(service.depends_on.keys().map(String::as_str));
            }
        }
        let order = self.in_dependency_order();
        order.into_iter().filter(|name| named.is_empty() || wanted.contains(name)).collect()
    }

    /// Services whose containers, namespaces or volumes a service uses.
    pub fn shares_with(service: &Service) -> Vec<&str> {
        let modes = [&service.network_mode, &service.ipc, &service.pid, &service.uts, &service.cgroup];
        let namespaces = modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("service:"));
        let volumes = service.volumes_from.iter().filter(|from| !from.starts_with("container:"));
        namespaces.chain(volumes.filter_map(|from| from.split(':').next())).collect()
    }
}
