//! Handing what was found to the engine: images first, containers last. What is there already under its name stays as it
//! is, so that a second run does only what the first could not.

use std::io::{self, Write};

use bytes::Bytes;
use ferry_api::{Call, Client};
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::found::{Container, Content, Found, Image, Network, Volume};
use crate::failure::{Failure, Outcome};
use crate::output;

/// Pieces of an archive under way.
const QUEUE: usize = 8;
/// How large they are.
const PIECE: usize = 256 * 1024;

/// What became of everything.
#[derive(Default)]
struct Report {
    failures: Vec<Failure>,
    running: Vec<String>,
    /// Networks that got another subnet here.
    moved: Vec<String>,
}

/// Hands everything over, telling each thing; fails with all that went wrong.
pub async fn give(engine: &Client, origin: Option<&Client>, found: Found) -> Outcome {
    let mut report = Report::default();
    for note in &found.notes {
        output::note(&format!("left out: {note}"));
    }
    for image in found.images {
        let name = image.names.first().cloned().unwrap_or_else(|| image.id.clone());
        let done = give_image(engine, origin, image).await;
        report.tell("image", &name, done)?;
    }
    for volume in found.volumes {
        let done = give_volume(engine, &volume).await;
        if done.is_ok() && !volume.writers.is_empty() {
            let writers = volume.writers.join(", ");
            output::note(&format!("volume {}: copied while {writers} could write to it", volume.name));
        }
        report.tell("volume", &volume.name, done)?;
    }
    for network in found.networks {
        let done = give_network(engine, &network, &mut report.moved).await;
        report.tell("network", &network.name, done)?;
    }
    for container in found.containers {
        let done = give_container(engine, &container, &report.moved).await;
        if container.runs && done.is_ok() {
            report.running.push(container.name.clone());
        }
        report.tell("container", &container.name, done)?;
    }
    if !report.running.is_empty() {
        let names = report.running.join(" ");
        output::note(&format!("these run in Docker; stop them there and then: ferry start {names}"));
    }
    match Failure::many(report.failures) {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

impl Report {
    fn tell(&mut self, kind: &str, name: &str, done: Result<bool, Failure>) -> Result<(), Failure> {
        match done {
            Ok(true) => output::line(&format!("{kind:<10} {name}"))?,
            Ok(false) => output::line(&format!("{kind:<10} {name}: is here already"))?,
            Err(failure) => self.failures.push(failure.context(&format!("{kind} {name}"))),
        }
        Ok(())
    }
}

async fn exists(engine: &Client, path: String) -> Result<bool, Failure> {
    match engine.call(Call::get(path)).await {
        Ok(answer) => {
            answer.discard().await?;
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn give_image(engine: &Client, origin: Option<&Client>, image: Image) -> Result<bool, Failure> {
    let mut new = false;
    if !exists(engine, format!("/images/{}/json", Call::segment(&image.id))).await? {
        let call = Call::post("/images/load").query("quiet", "1");
        let call = match (image.content, origin) {
            (Content::Files { config, layers }, _) => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::task::spawn_blocking(move || send_archive(&config, &layers, &sender));
                call.stream("application/x-tar", body(receiver))
            }
            (Content::Engine, Some(origin)) => {
                let wanted = Call::get(format!("/images/{}/get", Call::segment(&image.id)));
                let archive = origin.call(wanted).await?;
                call.stream("application/x-tar", pieces(archive))
            }
            (Content::Engine, None) => return Err(Failure::new("its engine is gone")),
        };
        engine.call(call).await?.discard().await?;
        new = true;
    }
    for name in &image.names {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let path = format!("/images/{}/json", Call::segment(name));
        // A name that means something else here stays with that.
        if !exists(engine, path).await? {
            let tagging = Call::post(format!("/images/{}/tag", Call::segment(&image.id)));
            engine.call(tagging.query("repo", repository).query("tag", tag)).await?.discard().await?;
            new = true;
        }
    }
    Ok(new)
}

fn pieces(
    archive: ferry_api::client::Response,
) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(archive, async |mut archive| match archive.chunk().await {
        Ok(Some(piece)) => Some((Ok(piece), archive)),
        Ok(None) => None,
        Err(error) => Some((Err(io::Error::other(error.to_string())), archive)),
    })
}

fn body(
    receiver: mpsc::Receiver<io::Result<Bytes>>,
) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_archive(config: &[u8], layers: &[super::layer::Layer], sender: &mpsc::Sender<io::Result<Bytes>>) {
    let out = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
    if let Err(error) = write_archive(config, layers, out) {
        // An engine that refused already says why itself.
        let _ = sender.blocking_send(Err(error));
    }
}

/// The form of `docker save`: configuration, layers, and a manifest that names them.
fn write_archive(config: &[u8], layers: &[super::layer::Layer], out: impl Write) -> io::Result<()> {
    let mut out = out;
    let mut names = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("{index}/layer.tar");
        let length = layer.length()?;
        out.write_all(header(&name, length)?.as_bytes())?;
        layer.write(&mut out)?;
        pad(&mut out, length)?;
        names.push(name);
    }
    let manifest = json!([{ "Config": "config.json", "RepoTags": [], "Layers": names }]).to_string();
    for (name, bytes) in [("config.json", config), ("manifest.json", manifest.as_bytes())] {
        out.write_all(header(name, bytes.len() as u64)?.as_bytes())?;
        out.write_all(bytes)?;
        pad(&mut out, bytes.len() as u64)?;
    }
    out.write_all(&[0; 1024])?;
    out.flush()
}

fn header(name: &str, length: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(length);
    header.set_mode(0o644);
    header.set_cksum();
    Ok(header)
}

fn pad(out: &mut impl Write, length: u64) -> io::Result<()> {
    const BLOCK: u64 = 512;
    let missing = (BLOCK - length % BLOCK) % BLOCK;
    out.write_all(&[0; BLOCK as usize][..missing as usize])
}

async fn give_volume(engine: &Client, volume: &Volume) -> Result<bool, Failure> {
    let path = format!("/volumes/{}", Call::segment(&volume.name));
    if exists(engine, path).await? {
        return Ok(false);
    }
    engine.call(Call::post("/volumes/create").json(&volume.request)).await?.discard().await?;
    // What is mounted by options has its data elsewhere.
    let has_options = volume.request["DriverOpts"].as_object().is_some_and(|options| !options.is_empty());
    if has_options {
        return Ok(true);
    }
    let place = format!("/ferry/volumes/{}/fill", Call::segment(&volume.name));
    let filled = engine.call(Call::post(place).json(&json!({ "Source": volume.data }))).await;
    let filled = match filled {
        Ok(answer) => answer.discard().await,
        Err(error) => Err(error),
    };
    if let Err(error) = filled {
        let path = format!("/volumes/{}", Call::segment(&volume.name));
        // An empty volume of this name would pass for the data.
        engine.call(Call::delete(path)).await?.discard().await?;
        return Err(error.into());
    }
    Ok(true)
}

/// The subnet may be Docker's as long as that runs: then the network gets another one.
async fn give_network(engine: &Client, network: &Network, moved: &mut Vec<String>) -> Result<bool, Failure> {
    if exists(engine, format!("/networks/{}", Call::segment(&network.name))).await? {
        return Ok(false);
    }
    let make = async |request: &Value| -> Result<(), ferry_api::client::ClientError> {
        engine.call(Call::post("/networks/create").json(request)).await?.discard().await
    };
    let Err(error) = make(&network.request).await else { return Ok(true) };
    let text = error.to_string();
    if !(text.contains("overlap") || text.contains("in use")) {
        return Err(error.into());
    }
    let mut request = network.request.clone();
    request["IPAM"] = json!({ "Driver": "default" });
    make(&request).await?;
    output::note(&format!(
        "network {}: its subnet is in use ({text}), so it has another one here, and fixed addresses are not kept",
        network.name
    ));
    moved.push(network.name.clone());
    Ok(true)
}

async fn give_container(engine: &Client, container: &Container, moved: &[String]) -> Result<bool, Failure> {
    if exists(engine, format!("/containers/{}/json", Call::segment(&container.name))).await? {
        return Ok(false);
    }
    let mut request = container.request.clone();
    // A name that is an image's no longer, or never was one: its id says which one it is.
    let name = super::socket::text(&request, "Image");
    if !exists(engine, format!("/images/{}/json", Call::segment(&name))).await? {
        request["Image"] = json!(container.image);
    }
    let endpoints = request["NetworkingConfig"]["EndpointsConfig"].as_object_mut();
    let moved_here = |(name, _): &(&String, &mut Value)| moved.contains(name);
    for (_, settings) in endpoints.into_iter().flatten().filter(moved_here) {
        if let Some(settings) = settings.as_object_mut() {
            Map::remove(settings, "IPAMConfig");
        }
    }
    let call = Call::post("/containers/create").query("name", &container.name).json(&request);
    engine.call(call).await?.discard().await?;
    Ok(true)
}
