//! `secret` and `config`: values that the engine keeps encrypted and gives to containers.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::vault::{CreateResponse, Spec, VaultObject};
use ferry_api::{Call, Filters};

use super::container::options::pairs;
use super::{each, filters};
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::format::{Choice, List, Row, label_method, labels_cell};
use crate::output::{self, time};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `secret create`.
    pub struct CreateFlags {
        driver: String = 'd' "driver" <string> "Secret driver (none is supported)";
        label: Vec<String> = 'l' "label" <list> "Labels";
        template_driver: String = '-' "template-driver" <string> "Template driver (none is supported)";
    }
}

crate::flags! {
    /// Flags of `secret ls`.
    pub struct LsFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only display IDs";
    }
}

crate::flags! {
    /// Flags of `secret inspect`.
    pub struct InspectFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
        pretty: bool = '-' "pretty" "Print the information in a human friendly format";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["secret create"],
        "[OPTIONS] SECRET [file|-]",
        "Create a secret from a file or STDIN as content",
        AtLeast(1),
        CreateFlags,
        create_secret
    ),
    command!(["secret ls", "secret list"], "[OPTIONS]", "List secrets", None, LsFlags, ls_secrets),
    command!(
        ["secret inspect"],
        "[OPTIONS] SECRET [SECRET...]",
        "Display detailed information on one or more secrets",
        AtLeast(1),
        InspectFlags,
        inspect_secrets
    ),
    command!(
        ["secret rm", "secret remove"],
        "SECRET [SECRET...]",
        "Remove one or more secrets",
        AtLeast(1),
        NoFlags,
        rm_secrets
    ),
    command!(
        ["config create"],
        "[OPTIONS] CONFIG file|-",
        "Create a config from a file or STDIN",
        AtLeast(1),
        CreateFlags,
        create_config
    ),
    command!(["config ls", "config list"], "[OPTIONS]", "List configs", None, LsFlags, ls_configs),
    command!(
        ["config inspect"],
        "[OPTIONS] CONFIG [CONFIG...]",
        "Display detailed information on one or more configs",
        AtLeast(1),
        InspectFlags,
        inspect_configs
    ),
    command!(
        ["config rm", "config remove"],
        "CONFIG [CONFIG...]",
        "Remove one or more configs",
        AtLeast(1),
        NoFlags,
        rm_configs
    ),
];

static LIST: List = List {
    columns: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("CreatedAt", "CREATED"),
        ("UpdatedAt", "UPDATED"),
        ("Labels", "LABELS"),
    ],
    default: "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    quiet: "{{.ID}}",
};

/// Secrets may lie with a program; Docker shows which.
const SECRETS: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";

/// Largest value read; the engine refuses what is larger than it keeps.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// Secrets or configs.
#[derive(Clone, Copy)]
enum Kind {
    Secret,
    Config,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Kind::Secret => "/secrets",
            Kind::Config => "/configs",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }
}

async fn create_secret(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    create(session, Kind::Secret, flags, &arguments).await
}

async fn create_config(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    create(session, Kind::Config, flags, &arguments).await
}

async fn ls_secrets(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    ls(session, Kind::Secret, flags).await
}

async fn ls_configs(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    ls(session, Kind::Config, flags).await
}

async fn inspect_secrets(session: &Session, flags: InspectFlags, names: Vec<String>) -> Outcome {
    inspect(session, Kind::Secret, flags, &names).await
}

async fn inspect_configs(session: &Session, flags: InspectFlags, names: Vec<String>) -> Outcome {
    inspect(session, Kind::Config, flags, &names).await
}

async fn rm_secrets(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    rm(session, Kind::Secret, &names).await
}

async fn rm_configs(session: &Session, _flags: NoFlags, names: Vec<String>) -> Outcome {
    rm(session, Kind::Config, &names).await
}

async fn create(session: &Session, kind: Kind, flags: CreateFlags, arguments: &[String]) -> Outcome {
    let (name, file) = match arguments {
        [name, file] => (name, file.as_str()),
        [_] => {
            return Err(Failure::new(format!("{} data is missing", kind.word())).hint(format!(
                "name a file, or '-' for standard input: ferry {} create NAME FILE",
                kind.word()
            )));
        }
        _ => return Err(Failure::new(format!("{} create takes a name and a file", kind.word()))),
    };
    if !flags.driver.is_empty() || !flags.template_driver.is_empty() {
        return Err(Failure::new(format!("drivers and templates of a {} are not supported", kind.word())));
    }
    let spec = Spec {
        name: name.clone(),
        labels: Some(pairs(&flags.label)),
        data: STANDARD.encode(read(file)?),
        ..Spec::default()
    };
    let call = Call::post(format!("{}/create", kind.path())).json(&spec);
    let made: CreateResponse = session.engine().await?.call(call).await?.json().await?;
    output::line(&made.id)?;
    Ok(0)
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::from(error).context(&format!("cannot read {file}"));
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .and_then(|open| open.take(MAX_BYTES).read_to_end(&mut bytes))
            .map_err(failed)?;
    }
    Ok(bytes)
}

async fn list(session: &Session, kind: Kind, filters: &Filters) -> Result<Vec<VaultObject>, Failure> {
    let mut call = Call::get(kind.path());
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    Ok(session.engine().await?.call(call).await?.json().await?)
}

async fn ls(session: &Session, kind: Kind, flags: LsFlags) -> Outcome {
    let objects = list(session, kind, &filters(&flags.filter)?).await?;
    let choice = Choice { format: flags.format, quiet: flags.quiet, ..Choice::default() };
    let default = match kind {
        Kind::Secret => SECRETS,
        Kind::Config => LIST.default,
    };
    LIST.print_with(default, &choice, objects.iter().map(row).collect())?;
    Ok(0)
}

fn row(object: &VaultObject) -> Row {
    let labels = object.spec.labels.clone().unwrap_or_default();
    let ago = |text: &str| match time::parse(text) {
        Some(seconds) => time::ago(seconds),
        None => text.to_owned(),
    };
    vec![
        ("ID", Value::text(object.id.as_str())),
        ("Name", Value::text(object.spec.name.as_str())),
        ("Driver", Value::text("")),
        ("CreatedAt", Value::text(ago(&object.created_at))),
        ("UpdatedAt", Value::text(ago(&object.updated_at))),
        ("Labels", Value::text(labels_cell(&labels))),
        ("Label", label_method(labels)),
    ]
}

async fn inspect(session: &Session, kind: Kind, flags: InspectFlags, names: &[String]) -> Outcome {
    let client = session.engine().await?;
    if flags.pretty {
        for name in names {
            let call = Call::get(format!("{}/{}", kind.path(), Call::segment(name)));
            print_pretty(&client.call(call).await?.json::<VaultObject>().await?)?;
        }
        return Ok(0);
    }
    match kind {
        Kind::Secret => super::inspect::inspect_secrets(session, &flags.format, names).await,
        Kind::Config => super::inspect::inspect_configs(session, &flags.format, names).await,
    }
}

fn print_pretty(object: &VaultObject) -> Result<(), Failure> {
    output::line(&format!("ID:\t\t\t{}", object.id))?;
    output::line(&format!("Name:\t\t\t{}", object.spec.name))?;
    for (key, value) in object.spec.labels.iter().flatten() {
        output::line(&format!(" - {key}={value}"))?;
    }
    output::line(&format!("Created at:\t\t{}", object.created_at))?;
    output::line(&format!("Updated at:\t\t{}", object.updated_at))?;
    if let Ok(data) = STANDARD.decode(&object.spec.data)
        && !data.is_empty()
    {
        output::line(&format!("Data:\n{}", String::from_utf8_lossy(&data)))?;
    }
    Ok(())
}

async fn rm(session: &Session, kind: Kind, names: &[String]) -> Outcome {
    let client = session.engine().await?;
    each(names, async |name: &str| {
        let call = Call::delete(format!("{}/{}", kind.path(), Call::segment(name)));
        let failure = match client.call(call).await {
            Ok(done) => return Ok(done.discard().await?),
            Err(error) => error,
        };
        let in_use = failure.status() == Some(400);
        let failure = Failure::from(failure);
        Err(if in_use { failure.hint("remove the containers that use it first") } else { failure })
    })
    .await
}
