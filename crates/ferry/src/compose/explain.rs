//! `diff` and `why`: what `up` would do, and the fields that make it do so.

use super::context::Compose;
use super::up::print_plan;
use crate::failure::Outcome;
use crate::flags::NoFlags;
use crate::output;
use ferry_compose::apply::observe;
use ferry_compose::plan::{self, Action, UpOptions};

/// Runs `diff`; the code is 1 when something would change.
pub async fn diff(compose: &Compose, _: NoFlags, services: Vec<String>) -> Outcome {
    let mut target = compose.target(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let found = observe(&engine, &mut target).await?;
    let plan = plan::up(&target, &found, &UpOptions { services, ..UpOptions::default() })?;
    print_plan(&plan)?;
    Ok(i32::from(!plan.is_empty()))
}

/// Runs `why`.
pub async fn why(compose: &Compose, _: NoFlags, arguments: Vec<String>) -> Outcome {
    let service = &arguments[0];
    let mut target = compose.target(std::slice::from_ref(service))?;
    let engine = compose.engine(&target.project.name).await?;
    let found = observe(&engine, &mut target).await?;
    compose.check_services(&target, &found.containers, &arguments)?;
    let plan = plan::up(&target, &found, &UpOptions { services: arguments.clone(), ..UpOptions::default() })?;
    let mut said = false;
    for step in &plan.steps {
        let of_service = match &step.action {
            Action::Create { service: of, .. }
            | Action::Recreate { service: of, .. }
            | Action::Start { service: of, .. }
            | Action::Stop { service: of, .. }
            | Action::Remove { service: of, .. } => of == service,
            _ => false,
        };
        if !of_service {
            continue;
        }
        said = true;
        output::line(&format!("{}: {}", step.subject(), step.verb()))?;
        for reason in &step.reasons {
            output::line(&format!("  {reason}"))?;
        }
    }
    if !said {
        output::line(&format!(
            "service \"{service}\" is as the Compose file describes it: up would change nothing"
        ))?;
    }
    Ok(0)
}
