//! What `system prune` is about to remove, in numbers, before it asks.
//!
//! Pure arithmetic over the engine's own account of its disk usage. Filters are the engine's business, so
//! with filters there is no forecast.

use std::collections::HashSet;

use ferry_api::container::Summary as Container;

use super::df::Usage;
use crate::output::units;

/// The label of volumes that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Which kinds are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// All unused images and all build cache.
    pub all: bool,
    /// Anonymous volumes too.
    pub volumes: bool,
}

/// One line per kind that has something to go.
pub fn forecast(usage: &Usage, unused_networks: usize, scope: Scope) -> Vec<String> {
    let stays = |container: &&Container| {
        matches!(container.state.as_str(), "running" | "paused" | "restarting" | "removing")
    };
    let staying: Vec<&Container> = usage.containers.iter().filter(stays).collect();
    let gone = usage.containers.iter().filter(|container| !stays(container));
    let mut lines = Vec::new();
    add(&mut lines, "stopped container", gone.map(|container| container.size_rw.unwrap_or(0)));
    if unused_networks > 0 {
        lines.push(format!("{unused_networks} unused network{}", plural(unused_networks)));
    }
    if scope.volumes {
        let used: HashSet<&str> =
            staying.iter().flat_map(|container| &container.mounts).map(|mount| mount.name.as_str()).collect();
        let anonymous = usage.volumes.iter().filter(|volume| {
            let labelled = volume.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL));
            labelled && !used.contains(volume.name.as_str())
        });
        let size = anonymous.map(|volume| volume.usage_data.as_ref().map_or(0, |usage| usage.size.max(0)));
        add(&mut lines, "anonymous volume", size);
    }
    let used: HashSet<&str> = staying.iter().map(|container| container.image_id.as_str()).collect();
    let images = usage.images.iter().filter(|image| {
        let named = image.repo_tags.iter().any(|tag| tag != "<none>:<none>");
        !used.contains(image.id.as_str()) && (scope.all || !named)
    });
    let kind = if scope.all { "image without a container" } else { "dangling image" };
    add(&mut lines, kind, images.map(|image| image.size - image.shared_size.max(0)));
    let cache = usage.cache.iter().filter(|record| scope.all || !record.in_use);
    add(
        &mut lines,
        "record of the build cache",
        cache.map(|record| if record.shared { 0 } else { record.size }),
    );
    lines
}

fn add(lines: &mut Vec<String>, kind: &str, sizes: impl Iterator<Item = i64>) {
    let sizes: Vec<i64> = sizes.collect();
    if sizes.is_empty() {
        return;
    }
    let (first, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    // "image without ...", but "stopped container".
    let kind = match (sizes.len(), first) {
        (1, _) => kind.to_owned(),
        (_, "image" | "record") => format!("{first}s {rest}"),
        _ => format!("{kind}s"),
    };
    let size = units::size4(sizes.iter().sum());
    lines.push(format!("{} {kind} ({size})", sizes.len()));
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use ferry_api::container::MountPoint;
    use ferry_api::image::Summary as Image;
    use ferry_api::volume::{UsageData, Volume};

    use super::*;

    fn usage() -> Usage {
        let container = |state: &str, image: &str, volume: &str| Container {
            state: state.into(),
            image_id: image.into(),
            size_rw: Some(1_000_000),
            mounts: vec![MountPoint { name: volume.into(), ..MountPoint::default() }],
            ..Container::default()
        };
        let image = |id: &str, tag: &str| Image {
            id: id.into(),
            repo_tags: vec![tag.into()],
            size: 5_000_000,
            shared_size: 1_000_000,
            ..Image::default()
        };
        let volume = |name: &str, labels: &[&str]| Volume {
            name: name.into(),
            labels: Some(labels.iter().map(|label| ((*label).to_owned(), String::new())).collect()),
            usage_data: Some(UsageData { ref_count: 1, size: 2_000_000 }),
            ..Volume::default()
        };
        Usage {
            layers: 0,
            images: vec![image("a", "a:1"), image("b", "b:1"), image("c", "<none>:<none>")],
            containers: vec![container("running", "a", "v1"), container("exited", "b", "v2")],
            volumes: vec![
                volume("v1", &[ANONYMOUS_LABEL]),
                volume("v2", &[ANONYMOUS_LABEL]),
                volume("named", &[]),
            ],
            cache: Vec::new(),
        }
    }

    #[test]
    fn what_a_running_container_uses_stays() {
        let plain = forecast(&usage(), 2, Scope::default());
        assert_eq!(plain, ["1 stopped container (1MB)", "2 unused networks", "1 dangling image (4MB)"]);
        let everything = forecast(&usage(), 0, Scope { all: true, volumes: true });
        let expected =
            ["1 stopped container (1MB)", "1 anonymous volume (2MB)", "2 images without a container (8MB)"];
        assert_eq!(everything, expected);
    }
}
