//! A plan as text: for `--dry-run` and `diff`.

use super::{Action, Plan, Step};

impl Step {
    /// What the step works on: `container app-web-1`.
    pub fn subject(&self) -> String {
        match &self.action {
            Action::CreateNetwork { name, .. }
            | Action::RecreateNetwork { name, .. }
            | Action::RemoveNetwork { name, .. } => {
                format!("network {name}")
            }
            Action::CreateVolume { name, .. } | Action::RemoveVolume { name } => format!("volume {name}"),
            Action::Create { name, .. }
            | Action::Recreate { name, .. }
            | Action::Rename { name, .. }
            | Action::Start { name, .. }
            | Action::Stop { name, .. }
            | Action::Remove { name, .. } => format!("container {name}"),
            Action::Wait { service, .. } => format!("service {service}"),
            Action::RemoveImage { name } => format!("image {name}"),
        }
    }

    /// What it does: `create`.
    pub fn verb(&self) -> &'static str {
        match &self.action {
            Action::CreateNetwork { .. } | Action::CreateVolume { .. } | Action::Create { .. } => "create",
            Action::RecreateNetwork { .. } | Action::Recreate { .. } => "recreate",
            Action::Rename { .. } => "rename",
            Action::Start { .. } => "start",
            Action::Stop { .. } => "stop",
            Action::Wait { condition, .. } => match condition {
                crate::model::Condition::ServiceHealthy => "wait until healthy",
                crate::model::Condition::ServiceCompletedSuccessfully => "wait until completed",
                crate::model::Condition::ServiceStarted => "wait until started",
            },
            Action::Remove { .. }
            | Action::RemoveNetwork { .. }
            | Action::RemoveVolume { .. }
            | Action::RemoveImage { .. } => "remove",
        }
    }
}

impl Plan {
    /// One line per step, reasons behind it.
    pub fn render(&self) -> String {
        let width = self.steps.iter().map(|step| step.subject().chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for step in &self.steps {
            let subject = step.subject();
            let padding = " ".repeat(width - subject.chars().count());
            let reasons = if step.reasons.is_empty() {
                String::new()
            } else {
                format!("  ({})", step.reasons.join("; "))
            };
            out.push_str(&format!("{subject}{padding}  {}{reasons}\n", step.verb()));
        }
        out
    }
}
