//! Looking: four lists, all at once, however many services there are; inspections only where they do not decide.

use super::ApplyError;
use super::engine::{Engine, trying};
use crate::found::{self, Found, FoundContainer};
use crate::plan;
use crate::target::Target;
use futures_util::future::{join_all, try_join_all};
use std::collections::{BTreeMap, BTreeSet};

/// Finds everything of the project, and the ids of its images.
pub async fn observe(engine: &Engine, target: &mut Target) -> Result<Found, ApplyError> {
    let images: BTreeSet<String> = target.services.keys().map(|name| target.image(name)).collect();
    let (containers, networks, volumes, tagged) =
        tokio::join!(engine.containers(), engine.networks(), engine.volumes(), engine.tagged_images());
    let containers = read(trying("cannot list containers", containers)?);
    let mut found = Found { containers, ..Found::default() };
    for network in trying("cannot list networks", networks)? {
        found.networks.insert(network.name.clone(), found::network(&network));
    }
    for volume in trying("cannot list volumes", volumes)? {
        found.volumes.insert(volume.name.clone(), found::volume(&volume));
    }
    let tagged = trying("cannot list images", tagged)?;
    let (known, unknown): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|name| tagged.contains_key(&familiar(name)));
    for name in known {
        let id = tagged[&familiar(&name)].clone();
        target.image_ids.insert(name, id);
    }
    // Ids, digests, and what is not there.
    let inspected = join_all(unknown.into_iter().map(|name| async {
        let image = engine.image(&name).await;
        (name, image)
    }));
    for (name, image) in inspected.await {
        match trying(format!("cannot inspect image {name}"), image)? {
            Some(image) => drop(target.image_ids.insert(name, image.id)),
            None => drop(target.image_ids.remove(&name)),
        }
    }
    compare(engine, target, &mut found).await?;
    Ok(found)
}

/// A name as the engine lists it: `docker.io/library/busybox` is `busybox:latest`. What is no tag is no name in the
/// list either.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}

/// Containers only: what commands that create nothing need.
pub async fn observe_containers(engine: &Engine) -> Result<Vec<FoundContainer>, ApplyError> {
    Ok(read(trying("cannot list containers", engine.containers().await)?))
}

fn read(summaries: Vec<ferry_api::container::Summary>) -> Vec<FoundContainer> {
    let mut containers: Vec<FoundContainer> =
        summaries.into_iter().filter_map(FoundContainer::read).collect();
    containers.sort_by(|left, right| {
        (&left.service, left.number, &left.name).cmp(&(&right.service, right.number, &right.name))
    });
    containers
}

/// Compares field by field the containers whose hash is foreign or different.
async fn compare(engine: &Engine, target: &Target, found: &mut Found) -> Result<(), ApplyError> {
    let doubtful: Vec<usize> = (0..found.containers.len())
        .filter(|index| plan::needs_inspection(target, &found.containers[*index]))
        .collect();
    let inspected =
        try_join_all(doubtful.iter().map(|index| inspect(engine, target, &found.containers[*index]))).await?;
    for (index, inspected) in doubtful.into_iter().zip(inspected) {
        if let Some((drift, shared)) = inspected {
            found.containers[index].drift = Some(drift);
            found.containers[index].shared = shared;
        }
    }
    Ok(())
}

/// What only an inspection tells: differences field by field, and the containers whose namespaces it shares.
type Inspected = (Vec<found::Change>, BTreeMap<String, String>);

async fn inspect(
    engine: &Engine,
    target: &Target,
    container: &FoundContainer,
) -> Result<Option<Inspected>, ApplyError> {
    let inspect = match engine.inspect(&container.id).await {
        Ok(inspect) => inspect,
        // It went away between the list and now.
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(ApplyError::engine(format!("cannot inspect {}", container.name))(error)),
    };
    let image =
        trying(format!("cannot inspect image {}", inspect.image), engine.image(&inspect.image).await)?;
    let name = target.image(&container.service);
    let Some(wanted) = target.wanted(&container.service, &name, &container.name, container.number) else {
        return Ok(None);
    };
    let request = crate::container::create_request(&wanted);
    let drift = plan::drift(&request, &inspect, image.as_ref().map(|image| &image.config));
    let host = &inspect.host_config;
    let shared = [("ipc", &host.ipc_mode), ("pid", &host.pid_mode), ("uts", &host.uts_mode)]
        .into_iter()
        .filter_map(|(field, mode)| Some((field.to_owned(), mode.strip_prefix("container:")?.to_owned())));
    Ok(Some((drift, shared.collect())))
}

#[cfg(test)]
mod tests {
    use super::familiar;

    #[test]
    fn names_as_the_engine_lists_them() {
        for (name, listed) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("docker.io/library/busybox", "busybox:latest"),
            ("docker.io/user/tool:2", "user/tool:2"),
            ("localhost:5000/tool", "localhost:5000/tool:latest"),
            ("library/a/b", "library/a/b:latest"),
            ("tool@sha256:0123", "tool@sha256:0123"),
        ] {
            assert_eq!(familiar(name), listed);
        }
    }
}
