//! `inspect` of anything: containers, images, volumes, networks; as JSON or through a template.

use ferry_api::{Call, Client, container, image, network, vault, volume};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::template::{Options, Template, TemplateError, Value};

crate::flags! {
    /// Flags of `inspect`.
    pub struct InspectFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
        size: bool = 's' "size" "Display total file sizes if the type is container";
        kind: String = '-' "type" <string> "Only inspect objects of the given type";
    }
}

crate::flags! {
    /// Flags of `container inspect`.
    pub struct ContainerInspectFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
        size: bool = 's' "size" "Display total file sizes";
    }
}

crate::flags! {
    /// Flags of the other inspects.
    pub struct FormatFlags {
        format: String = 'f' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
        platform: String = '-' "platform" <string> "Inspect a specific platform of the multi-platform image";
        verbose: bool = 'v' "verbose" "Verbose output for diagnostics";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["inspect"],
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        AtLeast(1),
        InspectFlags,
        inspect
    ),
    command!(
        ["container inspect"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        AtLeast(1),
        ContainerInspectFlags,
        inspect_containers
    ),
    command!(
        ["image inspect"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        AtLeast(1),
        FormatFlags,
        inspect_images
    ),
    command!(
        ["volume inspect"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        AtLeast(1),
        FormatFlags,
        inspect_volumes
    ),
    command!(
        ["network inspect"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        AtLeast(1),
        FormatFlags,
        inspect_networks
    ),
];

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Secret,
    Config,
}

impl Kind {
    /// In the order in which a name is looked up.
    const ALL: [Kind; 6] =
        [Kind::Container, Kind::Image, Kind::Network, Kind::Volume, Kind::Secret, Kind::Config];

    fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }

    fn call(self, name: &str, wanted: Wanted<'_>) -> Call {
        let name = Call::segment(name);
        match self {
            Kind::Container => Call::get(format!("/containers/{name}/json")).query_if("size", wanted.size),
            Kind::Image => Call::get(format!("/images/{name}/json")).query_text("platform", wanted.platform),
            Kind::Network => Call::get(format!("/networks/{name}")),
            Kind::Volume => Call::get(format!("/volumes/{name}")),
            Kind::Secret => Call::get(format!("/secrets/{name}")),
            Kind::Config => Call::get(format!("/configs/{name}")),
        }
    }

    /// The value as the type that Docker's client has for it, which decides how parts of it print.
    fn typed(self, json: &Json) -> Option<Value> {
        fn of<T: DeserializeOwned + serde::Serialize>(json: &Json) -> Option<Value> {
            serde_json::from_value::<T>(json.clone()).ok().map(|typed| Value::of(&typed))
        }
        match self {
            Kind::Container => of::<container::Inspect>(json),
            Kind::Image => of::<image::Inspect>(json),
            Kind::Network => of::<network::Network>(json),
            Kind::Volume => of::<volume::Volume>(json),
            Kind::Secret | Kind::Config => of::<vault::VaultObject>(json),
        }
    }
}

/// Runs `inspect`.
pub async fn inspect(session: &Session, flags: InspectFlags, names: Vec<String>) -> Outcome {
    let kinds: Vec<Kind> = match flags.kind.as_str() {
        "" => Kind::ALL.to_vec(),
        wanted => match Kind::ALL.into_iter().find(|kind| kind.name() == wanted) {
            Some(kind) => vec![kind],
            None => return Err(Failure::new(format!("{wanted:?} is not a valid value for --type"))),
        },
    };
    run(session, &kinds, &names, Wanted { size: flags.size, ..Wanted::of(&flags.format) }).await
}

/// Runs `container inspect`.
pub async fn inspect_containers(
    session: &Session,
    flags: ContainerInspectFlags,
    names: Vec<String>,
) -> Outcome {
    run(session, &[Kind::Container], &names, Wanted { size: flags.size, ..Wanted::of(&flags.format) }).await
}

/// Runs `image inspect`.
pub async fn inspect_images(session: &Session, flags: FormatFlags, names: Vec<String>) -> Outcome {
    let wanted = Wanted { platform: &flags.platform, ..Wanted::of(&flags.format) };
    run(session, &[Kind::Image], &names, wanted).await
}

/// Runs `volume inspect`.
pub async fn inspect_volumes(session: &Session, flags: FormatFlags, names: Vec<String>) -> Outcome {
    run(session, &[Kind::Volume], &names, Wanted::of(&flags.format)).await
}

/// Runs `network inspect`.
pub async fn inspect_networks(session: &Session, flags: FormatFlags, names: Vec<String>) -> Outcome {
    run(session, &[Kind::Network], &names, Wanted::of(&flags.format)).await
}

/// Runs `secret inspect`.
pub async fn inspect_secrets(session: &Session, format: &str, names: &[String]) -> Outcome {
    run(session, &[Kind::Secret], names, Wanted::of(format)).await
}

/// Runs `config inspect`.
pub async fn inspect_configs(session: &Session, format: &str, names: &[String]) -> Outcome {
    run(session, &[Kind::Config], names, Wanted::of(format)).await
}

/// What is to be told of an object, and how.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    format: &'a str,
    size: bool,
    platform: &'a str,
}

impl<'a> Wanted<'a> {
    fn of(format: &'a str) -> Self {
        Wanted { format, size: false, platform: "" }
    }
}

async fn run(session: &Session, kinds: &[Kind], names: &[String], wanted: Wanted<'_>) -> Outcome {
    let format = wanted.format;
    let template = match format {
        "" | "json" => None,
        format => Some(parse(format)?),
    };
    let client = session.engine().await?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match look_up(client, kinds, name, wanted).await {
            Ok((kind, json)) => match &template {
                None => found.push(json),
                Some(template) => match apply(template, kind, &json) {
                    Ok(text) => output::line(&text)?,
                    Err(error) => failures.push(
                        Failure::new(format!("template parsing error: {error}"))
                            .hint("'--format json' shows the names there are"),
                    ),
                },
            },
            Err(failure) => failures.push(failure),
        }
    }
    if format == "json" {
        output::line(&Json::Array(found).to_string())?;
    } else if template.is_none() {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&found, &mut serializer).map_err(|error| Failure::from_error(&error))?;
        text.push(b'\n');
        output::write(&text)?;
    }
    Failure::many(failures).map_or(Ok(0), Err)
}

fn parse(format: &str) -> Result<Template, Failure> {
    Template::parse(format).map_err(|error| Failure::new(format!("template parsing error: {error}")).code(64))
}

async fn look_up(
    client: &Client,
    kinds: &[Kind],
    name: &str,
    wanted: Wanted<'_>,
) -> Result<(Kind, Json), Failure> {
    if name.is_empty() {
        return Err(Failure::new("invalid reference: the name is empty (an unset variable?)"));
    }
    let mut last = None;
    for kind in kinds {
        match client.call(kind.call(name, wanted)).await {
            Ok(answer) => return Ok((*kind, answer.json().await?)),
            // An engine may refuse as an image what cannot be an image's name, and secrets outside of a swarm.
            Err(error)
                if error.is_not_found() || matches!(error.status(), Some(400 | 503)) && kinds.len() > 1 =>
            {
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match (kinds, last) {
        ([kind], Some(error)) => {
            let failure = Failure::from(error);
            Err(match kind {
                Kind::Container => failure.hint("run 'ferry ps -a' for the containers there are"),
                Kind::Image => failure.hint("run 'ferry images' for the images there are"),
                Kind::Network => failure.hint("run 'ferry network ls' for the networks there are"),
                Kind::Volume => failure.hint("run 'ferry volume ls' for the volumes there are"),
                Kind::Secret => failure.hint("run 'ferry secret ls' for the secrets there are"),
                Kind::Config => failure.hint("run 'ferry config ls' for the configs there are"),
            })
        }
        _ => Err(Failure::new(format!("No such object: {name}"))
            .hint("run 'ferry ps -a' or 'ferry images' for what there is")),
    }
}

/// Renders over the typed value, where parts print as Docker's client prints them; where that fails, over the
/// plain one, which has every key the engine sent.
fn apply(template: &Template, kind: Kind, json: &Json) -> Result<String, TemplateError> {
    if template.text() == "{{json .}}" {
        // The engine's own order of fields, which a map of values has not.
        return Ok(json.to_string());
    }
    let strict = Options { missing_key_is_error: true, header: false };
    // A label that is not there is no mistake; a field that is not there is one of its type anyway.
    let lenient = Options { missing_key_is_error: false, header: false };
    if let Some(typed) = kind.typed(json)
        && !is_json_of_everything(template.text())
        && let Ok(text) = template.render_with(&typed, lenient)
    {
        return Ok(text);
    }
    template.render_with(&Value::from(json), strict)
}

/// `{{json .}}` shall show all that the engine sent, also what we have no type for.
fn is_json_of_everything(text: &str) -> bool {
    text.contains("json .}}") || text.contains("json . ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_print_as_dockers_client_prints_them() {
        let json = json!({
            "Id": "abc", "Name": "/web", "State": {"Status": "exited", "ExitCode": 3},
            "Config": {"Cmd": ["echo", "x y"], "Labels": {"b": "2", "a": "1"}, "Env": null},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": null}},
            "New": {"Field": 1},
        });
        let check = |text: &str, wanted: &str| {
            let found = apply(&Template::parse(text).unwrap(), Kind::Container, &json);
            assert_eq!(found.unwrap_or_else(|error| format!("! {error}")), wanted, "{text}");
        };
        check("{{.Id}} {{.ID}} {{.Name}} {{.State.ExitCode}}", "abc abc /web 3");
        check("{{.Config.Cmd}} {{.Config.Labels}} {{.Config.Env}}", "[echo x y] map[a:1 b:2] []");
        check("{{.NetworkSettings.Ports}}", "map[80/tcp:[{0.0.0.0 8080}] 90/tcp:[]]");
        check(
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}->{{(index $c 0).HostPort}} {{break}}{{end}}",
            "80/tcp->8080 ",
        );
        check("{{.New.Field}}", "1");
        check("{{.Config.Labels.nope}}", "<no value>");
        check("{{json .}}", &json.to_string());
        check("{{json .New}}", "{\"Field\":1}");
        check("{{.Nope}}", "! template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"");
        check(
            "{{.State.Health.Status}}",
            "! template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
        );
    }
}
