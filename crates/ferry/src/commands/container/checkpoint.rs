//! `checkpoint create`, `ls` and `rm`.

use ferry_api::Call;
use serde_json::{Value as Json, json};

use super::{missing, path};
use crate::failure::Outcome;
use crate::output;
use crate::output::format::{Choice, List};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `checkpoint create`.
    pub struct CreateFlags {
        checkpoint_dir: String = '-' "checkpoint-dir" <string> "Use a custom checkpoint storage directory";
        leave_running: bool = '-' "leave-running" "Leave the container running after checkpoint";
    }
}

crate::flags! {
    /// Flags of `checkpoint ls` and `rm`.
    pub struct FolderFlags {
        checkpoint_dir: String = '-' "checkpoint-dir" <string> "Use a custom checkpoint storage directory";
    }
}

static LIST: List =
    List { columns: &[("Name", "CHECKPOINT NAME")], default: "{{.Name}}", quiet: "{{.Name}}" };

/// Runs `checkpoint create`.
pub async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let [container, name] = [&arguments[0], &arguments[1]];
    let request = json!({
        "CheckpointID": name,
        "CheckpointDir": flags.checkpoint_dir,
        "Exit": !flags.leave_running,
    });
    let call = Call::post(path(container, "/checkpoints")).json(&request);
    session.engine().await?.call(call).await.map_err(|error| missing(error, container))?.discard().await?;
    output::line(name)?;
    Ok(0)
}

/// Runs `checkpoint ls`.
pub async fn ls(session: &Session, flags: FolderFlags, arguments: Vec<String>) -> Outcome {
    let call = Call::get(path(&arguments[0], "/checkpoints")).query_text("dir", &flags.checkpoint_dir);
    let answer = session.engine().await?.call(call).await.map_err(|error| missing(error, &arguments[0]))?;
    let found: Option<Vec<Json>> = answer.json().await?;
    let row = |one: &Json| vec![("Name", Value::text(one["Name"].as_str().unwrap_or_default()))];
    LIST.print(&Choice::default(), found.unwrap_or_default().iter().map(row).collect())?;
    Ok(0)
}

/// Runs `checkpoint rm`.
pub async fn rm(session: &Session, flags: FolderFlags, arguments: Vec<String>) -> Outcome {
    let [container, name] = [&arguments[0], &arguments[1]];
    let call = Call::delete(path(container, &format!("/checkpoints/{}", Call::segment(name))))
        .query_text("dir", &flags.checkpoint_dir);
    session.engine().await?.call(call).await.map_err(|error| missing(error, container))?.discard().await?;
    Ok(0)
}
