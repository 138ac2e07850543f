//! `man`: manual pages, made from the table of commands.

use std::path::Path;

use crate::cli::Command;
use crate::command;
use crate::commands::{COMMANDS as ALL, GROUPS};
use crate::failure::{Failure, Outcome};
use crate::flags::{FlagSpec, NoFlags};
use crate::output;
use crate::session::Session;

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["man"],
    "DIR",
    "Write manual pages into a folder, for 'man -l' or for MANPATH/man1",
    Exactly(1),
    NoFlags,
    man
)];

/// Runs `man`.
pub async fn man(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let folder = Path::new(&arguments[0]);
    let failed = |error: std::io::Error| {
        Failure::from(error).context(&format!("cannot write manual pages into {}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let called = session.called;
    let mut count = 1;
    std::fs::write(folder.join(format!("{called}.1")), overview(called)).map_err(failed)?;
    for command in ALL.iter().flat_map(|list| list.iter()) {
        for name in command.names {
            let file = folder.join(format!("{called}-{}.1", name.replace(' ', "-")));
            std::fs::write(file, page(called, name, command)).map_err(failed)?;
            count += 1;
        }
    }
    output::line(&format!("Wrote {count} pages to {}", folder.display()))?;
    Ok(0)
}

fn head(title: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH \"{}\" 1 \"\" \"Ferry {version}\" \"Ferry commands\"\n", title.to_uppercase())
}

fn overview(called: &str) -> String {
    let mut text = head(called);
    text.push_str(&format!(
        ".SH NAME\n{called} \\- containers, images, builds and multi\\-container apps\n\
         .SH SYNOPSIS\n.B {called}\n[OPTIONS] COMMAND\n.SH OPTIONS\n"
    ));
    for spec in crate::cli::global_specs() {
        text.push_str(&flag(spec));
    }
    text.push_str(".SH COMMANDS\n");
    for (group, about) in GROUPS {
        text.push_str(&format!(".TP\n.B {}\n{}\n", escape(group), escape(about)));
    }
    for command in ALL.iter().flat_map(|list| list.iter()) {
        let page = command.names[0].replace(' ', "-");
        text.push_str(&format!(".TP\n.BR {called}\\-{} (1)\n{}\n", escape(&page), escape(command.about)));
    }
    text
}

fn page(called: &str, name: &str, command: &Command) -> String {
    let mut text = head(&format!("{called}-{}", name.replace(' ', "-")));
    text.push_str(&format!(
        ".SH NAME\n{called}\\-{} \\- {}\n.SH SYNOPSIS\n.B {called} {}\n{}\n",
        escape(&name.replace(' ', "-")),
        escape(command.about),
        escape(name),
        escape(command.usage),
    ));
    if command.names.len() > 1 {
        let others: Vec<&str> = command.names.iter().copied().filter(|other| *other != name).collect();
        text.push_str(&format!(".SH ALIASES\n{}\n", escape(&others.join(", "))));
    }
    let mut specs = (command.specs)();
    specs.sort_by_key(|spec| spec.long);
    if !specs.is_empty() {
        text.push_str(".SH OPTIONS\n");
        specs.into_iter().for_each(|spec| text.push_str(&flag(spec)));
    }
    text.push_str(&format!(".SH SEE ALSO\n.BR {called} (1)\n"));
    text
}

fn flag(spec: &FlagSpec) -> String {
    let letter = match spec.short {
        '-' => String::new(),
        letter => format!("\\-{letter}, "),
    };
    let kind = match spec.kind {
        "" => String::new(),
        kind => format!(" \\fI{}\\fR", escape(kind)),
    };
    format!(".TP\n\\fB{letter}\\-\\-{}\\fR{kind}\n{}\n", escape(spec.long), escape(spec.help))
}

/// Text that roff shows as it stands.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let run = ALL[0].iter().find(|command| command.names[0] == "run").unwrap();
        let text = page("ferry", "run", run);
        assert!(
            text.contains(".SH SYNOPSIS\n.B ferry run\n")
                && text.contains("\\fB\\-e, \\-\\-env\\fR \\fIlist\\fR")
        );
        assert_eq!(escape(".x\\y"), "\\&.x\\ey");
    }
}
