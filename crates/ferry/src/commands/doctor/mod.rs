//! `doctor`: looks at this machine and its engine for what keeps containers from working, and says how to mend
//! each thing.
//!
//! [`machine`] gathers facts; [`findings`] judges them, purely.

mod findings;
mod machine;

use self::findings::{Finding, Level};
use crate::cli::Command;
use crate::command;
use crate::failure::Outcome;
use crate::flags::NoFlags;
use crate::output;
use crate::session::Session;

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["doctor"],
    "",
    "Look for what keeps containers from working here, and say how to mend it",
    None,
    NoFlags,
    doctor
)];

/// Runs `doctor`: exit code 1 where something does not work.
async fn doctor(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    let engine = machine::ask_engine(session).await;
    let machine = machine::look(engine);
    let found = findings::examine(&machine);
    for finding in &found {
        output::write(text(finding).as_bytes())?;
    }
    let broken = found.iter().filter(|finding| finding.level == Level::Broken).count();
    let doubtful = found.iter().filter(|finding| finding.level == Level::Doubtful).count();
    output::line(&match (broken, doubtful) {
        (0, 0) => "Everything is as it should be.".to_owned(),
        (broken, doubtful) => format!("{broken} broken, {doubtful} doubtful."),
    })?;
    Ok(i32::from(broken > 0))
}

fn text(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Fine => "ok  ",
        Level::Doubtful => "look",
        Level::Broken => "BAD ",
    };
    let mut text = format!("{mark}  {:<14} {}\n", finding.subject, finding.fact);
    if let Some(mend) = &finding.mend {
        text.push_str(&format!("{:21}mend: {mend}\n", ""));
    }
    text
}
