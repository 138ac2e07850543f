//! `swarm`, `node`, `service`, `stack`, `plugin`, `trust`: what one machine's engine does not have. The words are
//! known, so that scripts get Docker's answer outside of a swarm and not "unknown command".

use ferry_api::Call;
use serde_json::Value as Json;

use crate::cli::{Arity, Command, Running};
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::{FlagSet as _, NoFlags, Order};
use crate::output::format::{Choice, List, short_id};
use crate::session::Session;
use crate::template::Value;

/// Declares commands of one group that end with the same words, whatever their flags.
macro_rules! refused {
    ($refuse:path: $($name:literal),+ $(,)?) => {
        &[$(Command {
            names: &[$name],
            usage: "[OPTIONS]",
            about: "Not available in an engine of one machine",
            arity: Arity::AtLeast(0),
            order: Order::BeforeArguments,
            specs: NoFlags::specs,
            run: $refuse,
        }),+]
    };
}

/// Commands about swarms.
pub static SWARM: &[Command] = refused!(no_swarm:
    "swarm ca", "swarm init", "swarm join", "swarm join-token", "swarm leave", "swarm unlock",
    "swarm unlock-key", "swarm update",
    "node demote", "node inspect", "node ls", "node promote", "node ps", "node rm", "node update",
    "service create", "service inspect", "service logs", "service ls", "service ps", "service rm",
    "service rollback", "service scale", "service update",
    "stack config", "stack deploy", "stack ls", "stack ps", "stack rm", "stack services",
);

/// Commands about plugins that would need one.
pub static NO_PLUGINS: &[Command] = refused!(no_plugins:
    "plugin create", "plugin disable", "plugin enable", "plugin inspect", "plugin install", "plugin push",
    "plugin rm", "plugin set", "plugin upgrade",
);

/// Commands about content trust.
pub static TRUST: &[Command] = refused!(no_trust:
    "trust inspect", "trust key", "trust revoke", "trust sign", "trust signer",
);

crate::flags! {
    /// Flags of `plugin ls`.
    pub struct PluginFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Provide filter values (e.g. \"enabled=true\")";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
        quiet: bool = 'q' "quiet" "Only display plugin IDs";
    }
}

/// The list of plugins, which every engine has.
pub static PLUGINS: &[Command] =
    &[command!(["plugin ls", "plugin list"], "[OPTIONS]", "List plugins", None, PluginFlags, plugins)];

static LIST: List = List {
    columns: &[("ID", "ID"), ("Name", "NAME"), ("Description", "DESCRIPTION"), ("Enabled", "ENABLED")],
    default: "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}",
    quiet: "{{.ID}}",
};

/// Runs `plugin ls`.
pub async fn plugins(session: &Session, flags: PluginFlags, _arguments: Vec<String>) -> Outcome {
    let mut call = Call::get("/plugins");
    let filters = crate::commands::filters(&flags.filter)?;
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let found: Option<Vec<Json>> = session.engine().await?.call(call).await?.json().await?;
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let found = found.unwrap_or_default();
    let rows = found.iter().map(|plugin| {
        let id = text(&plugin["Id"]);
        vec![
            ("ID", Value::text(if flags.no_trunc { id.as_str() } else { short_id(&id) })),
            ("Name", Value::text(text(&plugin["Name"]))),
            ("Description", Value::text(text(&plugin["Config"]["Description"]))),
            ("Enabled", Value::Bool(plugin["Enabled"].as_bool().unwrap_or(false))),
        ]
    });
    let rows = rows.collect();
    LIST.print(&Choice { format: flags.format, quiet: flags.quiet, ..Choice::default() }, rows)?;
    Ok(0)
}

fn no_swarm<'a>(session: &'a Session, _command: &'static Command, _words: Vec<String>) -> Running<'a> {
    Box::pin(async move {
        // An engine of Docker may well be in a swarm; this client still cannot drive it.
        let answer = session.engine().await?.call(Call::get("/swarm")).await;
        Err(match answer {
            Err(error) => Failure::from(error),
            Ok(_) => Failure::new("this client does not manage swarms"),
        }
        .hint("'compose up --scale SERVICE=N' runs several containers of a service on this machine"))
    })
}

fn no_plugins<'a>(_session: &'a Session, _command: &'static Command, words: Vec<String>) -> Running<'a> {
    Box::pin(async move {
        let name = words.iter().rev().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
        Err(Failure::new(format!("plugin {name:?} not found")).hint(
            "Ferry runs no plugins: volumes are local, NFS or bind mounts ('volume create -o type=nfs ...'), \
             networks are bridge, macvlan and ipvlan",
        ))
    })
}

fn no_trust<'a>(_session: &'a Session, _command: &'static Command, _words: Vec<String>) -> Running<'a> {
    Box::pin(async move {
        Err(Failure::new("content trust (Notary v1) is not supported; Docker has retired it too")
            .hint("pin images by digest: 'run NAME@sha256:...'"))
    })
}
