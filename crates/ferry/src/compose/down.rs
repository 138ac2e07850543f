//! `down`.

use super::context::Compose;
use super::up::{interruptible, print_plan, seconds};
use crate::failure::{Failure, Outcome};
use ferry_compose::apply::{Executor, Settings, observe};
use ferry_compose::plan::{self, DownOptions};
use ferry_compose::target::Target;

crate::flags! {
    /// Flags of `down`.
    pub struct DownFlags {
        remove_orphans: bool = '-' "remove-orphans" "Remove containers for services not defined in the Compose file";
        rmi: Option<String> = '-' "rmi" <string> "Remove images used by services. \"local\" remove only images that don't have a custom tag (\"local\"|\"all\")";
        timeout: Option<i64> = 't' "timeout" <int> "Specify a shutdown timeout in seconds";
        volumes: bool = 'v' "volumes" "Remove named volumes declared in the \"volumes\" section of the Compose file and anonymous volumes attached to containers";
        volume: bool = '-' "volume" "Remove volumes (deprecated spelling)";
    }
}

/// Runs `down`.
pub async fn down(compose: &Compose, flags: DownFlags, services: Vec<String>) -> Outcome {
    let mut target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let found = observe(&engine, &mut target).await?;
    compose.check_services(&target, &found.containers, &services)?;
    let provided = services.clone();
    let options = DownOptions {
        images: images(&target, flags.rmi.as_deref(), &services)?,
        services,
        remove_orphans: flags.remove_orphans,
        volumes: flags.volumes || flags.volume,
    };
    let plan = plan::down(&target, &found, &options);
    if compose.globals.dry_run {
        return print_plan(&plan);
    }
    let printer = compose.progress("down");
    let executor = Executor::new(
        &engine,
        &target,
        &found.containers,
        &printer,
        Settings { timeout: seconds(flags.timeout) },
    );
    interruptible(executor.execute(&plan)).await?;
    super::provider::down(&target, &provided, &printer).await?;
    Ok(0)
}

/// `local`: images built here that nobody named; `all`: every service's.
fn images(target: &Target, which: Option<&str>, services: &[String]) -> Result<Vec<String>, Failure> {
    let chosen = target.services.iter().filter(|(name, _)| services.is_empty() || services.contains(name));
    match which {
        None => Ok(Vec::new()),
        Some("all") => Ok(chosen.map(|(name, _)| target.image(name)).collect()),
        Some("local") => Ok(chosen
            .filter(|(_, service)| service.image.is_none())
            .map(|(name, _)| target.image(name))
            .collect()),
        Some(other) => Err(Failure::new(format!("--rmi is \"{other}\", but can only be local or all"))),
    }
}
