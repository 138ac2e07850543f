//! Images before containers: what must be pulled, what must be built, and both at once.

use super::engine::Engine;
use super::{ApplyError, Phase, Progress, Running};
use crate::model::{Build, Service};
use crate::target::Target;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Pulls an image.
pub trait Puller {
    /// Pulls `image`, reporting its layers to `progress`.
    fn pull<'a>(
        &'a self,
        image: &'a str,
        platform: &'a str,
        progress: &'a dyn Progress,
    ) -> Running<'a, Result<(), String>>;
}

/// One image to build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildRequest {
    /// The service it is for.
    pub service: String,
    /// Names it gets.
    pub tags: Vec<String>,
    /// How.
    pub build: Build,
    /// Platform, where one is named.
    pub platform: Option<String>,
    /// Secrets by id: the file or the environment variable each comes from.
    pub secrets: BTreeMap<String, crate::model::Config>,
    /// Without the cache.
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// Quiet.
    pub quiet: bool,
    /// Services whose images are build contexts of this one.
    pub after: Vec<String>,
}

/// Builds an image.
pub trait Builder {
    /// Builds and tags the image.
    fn build<'a>(&'a self, request: &'a BuildRequest) -> Running<'a, Result<(), String>>;
}

/// When images are pulled and built.
#[derive(Clone, Debug, Default)]
pub struct ImagePolicy {
    /// `--pull`: overrides `pull_policy`.
    pub pull: Option<String>,
    /// `--build`: build even when the image is there.
    pub build: bool,
    /// `--no-build`: never.
    pub no_build: bool,
    /// `--quiet-build`.
    pub quiet_build: bool,
}

/// The builds of the named services (all when none is named), in an order in which contexts come first.
pub fn build_requests(target: &Target, services: &[&str]) -> Vec<BuildRequest> {
    let mut requests: Vec<BuildRequest> = Vec::new();
    for name in services {
        add_request(target, name, &mut requests);
    }
    requests
}

fn add_request(target: &Target, name: &str, requests: &mut Vec<BuildRequest>) {
    let Some(service) = target.services.get(name) else { return };
    let Some(build) = &service.build else { return };
    if requests.iter().any(|request| request.service == name) {
        return;
    }
    let contexts = build.additional_contexts.values().filter_map(|context| context.strip_prefix("service:"));
    let after: Vec<String> = contexts.map(str::to_owned).collect();
    for parent in &after {
        add_request(target, parent, requests);
    }
    let mut tags = vec![target.image(name)];
    tags.extend(build.tags.iter().cloned());
    let secret = |reference: &crate::model::FileReference| {
        let id = reference.target.clone().unwrap_or_else(|| reference.source.clone());
        Some((id, target.secrets.get(&reference.source)?.clone()))
    };
    requests.push(BuildRequest {
        service: name.to_owned(),
        tags,
        build: build.clone(),
        platform: service.platform.clone(),
        secrets: build.secrets.iter().filter_map(secret).collect(),
        no_cache: build.no_cache,
        pull: build.pull,
        quiet: false,
        after,
    });
}

/// What happens to one service's image.
#[derive(Debug, PartialEq)]
enum Need {
    Nothing,
    Pull { even_if_present: bool },
    Build,
    Missing,
}

/// Makes every image of the services present: pulls and builds run side by side.
/// The target's image ids must have been observed before, and must be observed again after.
pub async fn prepare_images(
    engine: &Engine,
    target: &Target,
    services: &[&str],
    policy: &ImagePolicy,
    puller: &dyn Puller,
    builder: &dyn Builder,
    progress: &dyn Progress,
) -> Result<bool, ApplyError> {
    let mut pulls: BTreeMap<String, &str> = BTreeMap::new();
    let mut builds: BTreeSet<&str> = BTreeSet::new();
    for name in services {
        let Some(service) = target.services.get(*name) else { continue };
        let image = target.image(name);
        let age = age_of(engine, target, service, &image).await?;
        match need(service, target.image_ids.contains_key(&image), age, policy) {
            Need::Nothing => {}
            Need::Pull { .. } => drop(pulls.insert(image, name)),
            Need::Build => drop(builds.insert(name)),
            Need::Missing => {
                let reason = "it is not there, and the policy forbids to get it".to_owned();
                return Err(ApplyError::Image { image, service: (*name).to_owned(), reason });
            }
        }
    }
    if pulls.is_empty() && builds.is_empty() {
        return Ok(false);
    }
    let failed = pull_all(target, &pulls, puller, progress).await?;
    builds.extend(failed);
    let ordered: Vec<&str> = builds.into_iter().collect();
    let mut requests = build_requests(target, &ordered);
    for request in &mut requests {
        request.quiet = policy.quiet_build;
    }
    build_all(&requests, builder, progress).await?;
    Ok(true)
}

/// How old the local image is, where the policy asks for its age.
async fn age_of(
    engine: &Engine,
    target: &Target,
    service: &Service,
    image: &str,
) -> Result<Option<Duration>, ApplyError> {
    let by_age = service.pull_policy.as_deref().is_some_and(|policy| max_age(policy).is_some());
    if !by_age || !target.image_ids.contains_key(image) {
        return Ok(None);
    }
    let found =
        engine.image(image).await.map_err(ApplyError::engine(format!("cannot inspect image {image}")))?;
    let tagged =
        found.map(|image| image.metadata.last_tag_time).and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let age = tagged.map(|time| jiff::Timestamp::now().duration_since(time));
    Ok(age.and_then(|age| Duration::try_from(age).ok()))
}

/// The age after which `daily`, `weekly` and `every_…` pull again.
fn max_age(policy: &str) -> Option<Duration> {
    match policy {
        "daily" => Some(Duration::from_secs(86_400)),
        "weekly" => Some(Duration::from_secs(604_800)),
        other => crate::units::parse_duration(other.strip_prefix("every_")?).ok(),
    }
}

fn need(service: &Service, present: bool, age: Option<Duration>, policy: &ImagePolicy) -> Need {
    if service.provider.is_some() {
        return Need::Nothing;
    }
    let word = policy.pull.as_deref().or(service.pull_policy.as_deref()).unwrap_or("missing");
    let buildable = service.build.is_some();
    if buildable && policy.build && !policy.no_build {
        return Need::Build;
    }
    let wants_pull = service.image.is_some();
    match word {
        "always" | "refresh" if wants_pull => Need::Pull { even_if_present: true },
        "build" if buildable && !policy.no_build => Need::Build,
        "never" if present || service.image.is_none() && !buildable => Need::Nothing,
        "never" if buildable && !policy.no_build => Need::Build,
        "never" => Need::Missing,
        word if max_age(word).is_some_and(|limit| age.is_some_and(|age| age > limit)) && wants_pull => {
            Need::Pull { even_if_present: true }
        }
        _ if present => Need::Nothing,
        _ if buildable && !policy.no_build => Need::Build,
        _ if wants_pull => Need::Pull { even_if_present: false },
        _ => Need::Missing,
    }
}

/// Pulls side by side; gives the services whose pull failed but that can be built.
async fn pull_all<'t>(
    target: &'t Target,
    pulls: &BTreeMap<String, &'t str>,
    puller: &dyn Puller,
    progress: &dyn Progress,
) -> Result<Vec<&'t str>, ApplyError> {
    let mut running = FuturesUnordered::new();
    for (image, service) in pulls {
        running.push(async move {
            let subject = format!("Image {image}");
            progress.state(&subject, "Pulling", Phase::Working);
            let platform = target.services.get(*service).and_then(|s| s.platform.clone()).unwrap_or_default();
            let result = puller.pull(image, &platform, progress).await;
            let (word, phase) =
                if result.is_ok() { ("Pulled", Phase::Done) } else { ("Error", Phase::Failed) };
            progress.state(&subject, word, phase);
            (image, *service, result)
        });
    }
    let mut buildable = Vec::new();
    let mut failure = None;
    while let Some((image, service, result)) = running.next().await {
        let Err(reason) = result else { continue };
        if target.services.get(service).is_some_and(|service| service.build.is_some()) {
            buildable.push(service);
        } else {
            let (image, service) = (image.clone(), service.to_owned());
            failure.get_or_insert(ApplyError::Image { image, service, reason });
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(buildable),
    }
}

/// Builds in order; those that wait for none of the others side by side.
async fn build_all(
    requests: &[BuildRequest],
    builder: &dyn Builder,
    progress: &dyn Progress,
) -> Result<(), ApplyError> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < requests.len() {
        let known = |name: &str| requests.iter().any(|request| request.service == name);
        let ready: Vec<&BuildRequest> = requests
            .iter()
            .filter(|request| !done.contains(request.service.as_str()))
            .filter(|request| {
                request.after.iter().all(|parent| done.contains(parent.as_str()) || !known(parent))
            })
            .collect();
        if ready.is_empty() {
            return Err(ApplyError::Setting(
                "build contexts of services depend on each other in a circle".to_owned(),
            ));
        }
        let mut running = FuturesUnordered::new();
        for request in ready {
            running.push(async move {
                let subject = format!("Image {}", request.tags[0]);
                progress.state(&subject, "Building", Phase::Working);
                let result = builder.build(request).await;
                let (word, phase) =
                    if result.is_ok() { ("Built", Phase::Done) } else { ("Error", Phase::Failed) };
                progress.state(&subject, word, phase);
                (request, result)
            });
        }
        while let Some((request, result)) = running.next().await {
            if let Err(reason) = result {
                let (image, service) = (request.tags[0].clone(), request.service.clone());
                return Err(ApplyError::Image { image, service, reason });
            }
            done.insert(&request.service);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let image = || Service { image: Some("i".into()), ..Service::default() };
        let built = || Service { build: Some(Build::default()), ..Service::default() };
        let both =
            || Service { image: Some("i".into()), build: Some(Build::default()), ..Service::default() };
        let with = |mut service: Service, policy: &str| {
            service.pull_policy = Some(policy.into());
            service
        };
        let plain = ImagePolicy::default();
        let build = ImagePolicy { build: true, ..ImagePolicy::default() };
        let no_build = ImagePolicy { no_build: true, ..ImagePolicy::default() };
        let always = ImagePolicy { pull: Some("always".into()), ..ImagePolicy::default() };
        let pull = |even_if_present| Need::Pull { even_if_present };
        let old = Some(Duration::from_secs(90_000));
        for (service, present, age, policy, expected) in [
            (image(), false, None, &plain, pull(false)),
            (image(), true, None, &plain, Need::Nothing),
            (image(), true, None, &always, pull(true)),
            (with(image(), "always"), true, None, &plain, pull(true)),
            (with(image(), "never"), false, None, &plain, Need::Missing),
            (with(image(), "never"), true, None, &plain, Need::Nothing),
            (with(image(), "daily"), true, old, &plain, pull(true)),
            (with(image(), "weekly"), true, old, &plain, Need::Nothing),
            (with(image(), "every_12h"), true, old, &plain, pull(true)),
            (built(), false, None, &plain, Need::Build),
            (built(), true, None, &plain, Need::Nothing),
            (built(), true, None, &build, Need::Build),
            (built(), false, None, &no_build, Need::Missing),
            (both(), false, None, &plain, Need::Build),
            (both(), false, None, &no_build, pull(false)),
            (with(both(), "build"), true, None, &plain, Need::Build),
            (with(both(), "always"), true, None, &plain, pull(true)),
        ] {
            assert_eq!(
                need(&service, present, age, policy),
                expected,
                "{:?} {present} {policy:?}",
                service.pull_policy
            );
        }
    }
}
