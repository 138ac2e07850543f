//! `bridge`: the project in the form of other tools. As in Docker the forms are made by images, the transformers: each
//! is run with the project at `/in`, the result's folder at `/out`, and its templates at `/templates`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ferry_api::Call;
use ferry_compose::loader::Loaded;
use ferry_compose::output as render;
use ferry_compose::target::Target;
use ferry_compose::tree::Node;

use super::context::Compose;
use super::forward::hand_over;
use super::table;
use crate::commands::confirm;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;

/// The transformer where none is named.
const DEFAULT: &str = "docker/compose-bridge-kubernetes";
/// What new transformers are built from, and the label that tells a transformer.
const DOCKERFILE: &str = "FROM docker/compose-bridge-transformer\n\
                          LABEL com.docker.compose.bridge=transformation\n\
                          COPY templates /templates\n";
const LABEL: &str = "label=com.docker.compose.bridge=transformation";

crate::flags! {
    /// Flags of `bridge convert`.
    pub struct ConvertFlags {
        output: Option<String> = 'o' "output" <string> "The output directory for the Kubernetes resources (default \"out\")";
        templates: Option<String> = '-' "templates" <string> "Directory containing transformation templates";
        transformation: Vec<String> = 't' "transformation" <list> "Transformation to apply to compose model (default: docker/compose-bridge-kubernetes)";
    }
}

crate::flags! {
    /// Flags of `bridge transformations list`.
    pub struct ListFlags {
        format: String = '-' "format" <string> "Format the output. Values: [table | json] (default \"table\")";
        quiet: bool = 'q' "quiet" "Only display transformer names";
    }
}

crate::flags! {
    /// Flags of `bridge transformations create`.
    pub struct CreateFlags {
        from: Option<String> = 'f' "from" <string> "Existing transformation to copy (default: docker/compose-bridge-kubernetes)";
    }
}

/// Runs the command that the words behind `bridge` name.
pub async fn bridge(compose: &Compose, _: NoFlags, mut words: Vec<String>) -> Outcome {
    let depth = if words.first().is_some_and(|word| word == "transformations") { 2 } else { 1 };
    let rest = words.split_off(depth.min(words.len()));
    let name = format!("bridge {}", words.join(" "));
    match table::BRIDGE.iter().find(|command| command.names.contains(&name.as_str())) {
        Some(command) => (command.run)(compose, command, rest).await,
        None => Err(Failure::new(format!("\"{name}\" is no command")).hint(
            "there are 'bridge convert', 'bridge transformations list' and 'bridge transformations create'",
        )),
    }
}

/// Runs `bridge convert`.
pub async fn convert(compose: &Compose, flags: ConvertFlags, _: Vec<String>) -> Outcome {
    let model = model(compose, &compose.load(&[])?).await?;
    let out = PathBuf::from(flags.output.as_deref().unwrap_or("out"));
    prepare(&out)?;
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("compose.yaml");
    std::fs::write(&project, render::to_yaml(&render::presentable(&model, true)))?;
    let mut binds = vec![bind(folder.path(), "/in")?, bind(&out, "/out")?];
    if let Some(templates) = &flags.templates {
        binds.push(bind(Path::new(templates), "/templates")?);
    }
    let default = [DEFAULT.to_owned()];
    let images = if flags.transformation.is_empty() { &default[..] } else { &flags.transformation };
    for image in images {
        let user = rustix::process::getuid().as_raw().to_string();
        let mut words = ["--rm", "-e", "LICENSE_AGREEMENT=true", "-u", &user].map(str::to_owned).to_vec();
        words.extend(binds.iter().flat_map(|bind| ["-v".to_owned(), bind.clone()]));
        words.push(image.clone());
        let code = hand_over(&compose.session, "run", words).await.map_err(|failure| {
            failure.hint(format!(
                "the form is made by the image {image}; '-t IMAGE' takes another, 'bridge transformations list' shows those here"
            ))
        })?;
        if code != 0 {
            return Err(Failure::new(format!("the transformer {image} ended with code {code}")));
        }
    }
    Ok(0)
}

/// `FOLDER:TARGET`, the folder from the root.
fn bind(folder: &Path, target: &str) -> Result<String, Failure> {
    let folder = folder
        .canonicalize()
        .map_err(|error| Failure::from(error).context(&format!("cannot find {}", folder.display())))?;
    Ok(format!("{}:{target}", folder.display()))
}

/// An empty folder; what is in it is only deleted where somebody says so.
fn prepare(out: &Path) -> Result<(), Failure> {
    let name = out.display();
    let failed = |error| Failure::from_error(&error).context(&format!("cannot prepare the folder {name}"));
    let is_empty = match std::fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
        Ok(mut entries) => entries.next().is_none(),
    };
    if !is_empty {
        let question = format!(
            "Output directory '{name}' is not empty, all its content will be permanently deleted. Continue?"
        );
        if !confirm(&question)? {
            return Err(Failure::new(format!("deletion of output directory '{name}' was not confirmed"))
                .hint("name a folder that is empty or not there: -o FOLDER"));
        }
        std::fs::remove_dir_all(out).map_err(failed)?;
    }
    std::fs::create_dir_all(out).map_err(failed)
}

/// The project with what only the engine and the files know: names and ports of images, contents of secrets and configs.
async fn model(compose: &Compose, loaded: &Loaded) -> Result<Node, Failure> {
    let target = Target::new(loaded.project.clone(), compose.separator())
        .map_err(|error| Failure::from_error(&error))?;
    let mut tree = loaded.project.tree.clone();
    for (name, node) in tree.get_mut("services").and_then(Node::as_mapping_mut).into_iter().flatten() {
        let Some(service) = node.as_mapping_mut() else { continue };
        let image = target.image(name);
        let is_built = service.contains_key("build") && !service.contains_key("image");
        let mut ports = match exposed(compose, &image, is_built).await? {
            Some(ports) => ports,
            None => {
                super::warn(&format!(
                    "image {image} for service {name} is not there, so the ports it exposes are left out; 'compose build' makes it"
                ));
                BTreeSet::new()
            }
        };
        let written = service.get("expose").and_then(Node::as_sequence).unwrap_or_default();
        ports.extend(written.iter().filter_map(Node::scalar_text));
        let published = target.services.get(name).map(|service| service.ports.as_slice()).unwrap_or_default();
        ports.extend(published.iter().filter_map(|port| Some(port.target?.to_string())));
        service.insert("image".to_owned(), Node::derived(image));
        if !ports.is_empty() {
            let ports: Vec<Node> = ports.into_iter().map(Node::derived).collect();
            service.insert("expose".to_owned(), Node::derived(ports));
        }
    }
    for section in ["secrets", "configs"] {
        for (_, node) in tree.get_mut(section).and_then(Node::as_mapping_mut).into_iter().flatten() {
            let contents = contents(loaded, node)?;
            if let (Some(entry), Some(text)) = (node.as_mapping_mut(), contents) {
                entry.insert("content".to_owned(), Node::derived(text));
            }
        }
    }
    Ok(tree)
}

/// The ports that an image exposes, which is fetched where it is missing; None for one that is yet to be built.
async fn exposed(
    compose: &Compose,
    image: &str,
    is_built: bool,
) -> Result<Option<BTreeSet<String>>, Failure> {
    let engine = compose.session.engine().await?;
    let path = format!("/images/{}/json", Call::segment(image));
    let inspected: serde_json::Value = match engine.call(Call::get(&path)).await {
        Err(error) if error.is_not_found() && is_built => return Ok(None),
        Err(error) if error.is_not_found() => {
            hand_over(&compose.session, "pull", vec!["-q".to_owned(), image.to_owned()]).await?;
            engine.call(Call::get(&path)).await?.json().await?
        }
        answer => answer?.json().await?,
    };
    let ports = inspected["Config"]["ExposedPorts"].as_object().into_iter().flatten();
    Ok(Some(ports.filter_map(|(port, _)| port.split('/').next().map(str::to_owned)).collect()))
}

/// What a secret or config holds, where that is not in the engine's store.
fn contents(loaded: &Loaded, node: &Node) -> Result<Option<String>, Failure> {
    if let Some(variable) = node.get_str("environment") {
        return Ok(loaded.project.environment.get(variable).map(str::to_owned));
    }
    let Some(path) = node.get_str("file") else { return Ok(None) };
    std::fs::read_to_string(path)
        .map(Some)
        .map_err(|error| Failure::from(error).context(&format!("cannot read {path}")))
}

/// Runs `bridge transformations list`.
pub async fn list(compose: &Compose, flags: ListFlags, _: Vec<String>) -> Outcome {
    let mut words = vec!["--filter".to_owned(), LABEL.to_owned()];
    let format = match flags.format.as_str() {
        "" | "table" if flags.quiet => "{{.Repository}}:{{.Tag}}",
        "" | "table" => "",
        "json" => "json",
        other => {
            return Err(Failure::new(format!("--format is \"{other}\", but can only be table or json")));
        }
    };
    if !format.is_empty() {
        words.extend(["--format".to_owned(), format.to_owned()]);
    }
    hand_over(&compose.session, "images", words).await
}

/// Runs `bridge transformations create`.
pub async fn create(compose: &Compose, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let out = Path::new(&arguments[0]);
    if out.exists() {
        return Err(Failure::new(format!("output folder {} already exists", out.display())));
    }
    let image = flags.from.as_deref().unwrap_or(DEFAULT);
    // So that a missing image is fetched, and none leaves a folder behind.
    exposed(compose, image, false).await?;
    let engine = compose.session.engine().await?;
    let request = serde_json::json!({ "Image": image, "Cmd": ["-"] });
    let created: serde_json::Value =
        engine.call(Call::post("/containers/create").json(&request)).await?.json().await?;
    let id = created["Id"].as_str().unwrap_or_default().to_owned();
    std::fs::create_dir_all(out)?;
    let out = out.canonicalize()?;
    let words =
        vec!["-q".to_owned(), format!("{id}:/templates"), out.join("templates").display().to_string()];
    let copied = hand_over(&compose.session, "cp", words).await;
    let removal = Call::delete(format!("/containers/{id}")).query("force", "1");
    engine.call(removal).await?.discard().await?;
    if let Err(failure) = copied {
        std::fs::remove_dir_all(&out)?;
        return Err(failure);
    }
    std::fs::write(out.join("Dockerfile"), DOCKERFILE)?;
    output::line(&format!("Transformer created in {:?}", out.display().to_string()))?;
    Ok(0)
}
