//! The engine's calls as typed functions.

use super::ApplyError;
use crate::labels;
use bytes::Bytes;
use ferry_api::container::{CreateRequest, CreateResponse, Inspect, Summary};
use ferry_api::exec::{ExecInspect, ExecStartRequest};
use ferry_api::{Call, Client, ClientError, Filters, image, network, volume};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

/// The API version from which a container can be created on several networks at once.
const MULTIPLE_NETWORKS_SINCE: (u32, u32) = (1, 44);

/// The engine, for one project.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The client.
    pub client: Client,
    /// The project's name.
    pub project: String,
}

type Answer<T> = Result<T, ClientError>;

impl Engine {
    /// The engine behind a client.
    pub fn new(client: Client, project: impl Into<String>) -> Self {
        Engine { client, project: project.into() }
    }

    /// Makes a call and reads its JSON by the API's lenient rules.
    pub async fn json<T: DeserializeOwned>(&self, call: Call) -> Answer<T> {
        let bytes = self.client.call(call).await?.bytes().await?;
        ferry_api::from_slice(&bytes).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    /// Makes a call whose answer says nothing more.
    pub async fn done(&self, call: Call) -> Answer<()> {
        self.client.call(call).await?.discard().await
    }

    /// Whether create takes several networks.
    pub fn takes_several_networks(&self) -> bool {
        let version = self.client.version();
        let (major, minor) = version.split_once('.').unwrap_or((&version, "0"));
        (major.parse().unwrap_or(0), minor.parse().unwrap_or(0)) >= MULTIPLE_NETWORKS_SINCE
    }

    /// Containers of the project, stopped ones too.
    pub async fn containers(&self) -> Answer<Vec<Summary>> {
        let mut filters = Filters::default();
        filters.add("label", labels::of_project(&self.project));
        filters.add("label", labels::CONFIG_HASH);
        self.json(Call::get("/containers/json").query("all", "1").query("filters", filters.to_json())).await
    }

    /// All networks of the engine.
    pub async fn networks(&self) -> Answer<Vec<network::Network>> {
        self.json(Call::get("/networks")).await
    }

    /// All volumes of the engine.
    pub async fn volumes(&self) -> Answer<Vec<volume::Volume>> {
        let answer: volume::ListResponse = self.json(Call::get("/volumes")).await?;
        Ok(answer.volumes.unwrap_or_default())
    }

    /// Ids of all images that have a tag, by tag.
    pub async fn tagged_images(&self) -> Answer<BTreeMap<String, String>> {
        let images: Vec<image::Summary> = self.json(Call::get("/images/json")).await?;
        let tags = images.into_iter().flat_map(|image| {
            let id = image.id;
            image.repo_tags.into_iter().map(move |tag| (tag, id.clone()))
        });
        Ok(tags.collect())
    }

    /// One container.
    pub async fn inspect(&self, id: &str) -> Answer<Inspect> {
        self.json(Call::get(path("/containers", id, "/json"))).await
    }

    /// One image; absent when it is not there.
    pub async fn image(&self, name: &str) -> Answer<Option<image::Inspect>> {
        match self.json(Call::get(path("/images", name, "/json"))).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a container.
    pub async fn create(
        &self,
        name: &str,
        platform: &str,
        request: &CreateRequest,
    ) -> Answer<CreateResponse> {
        let call = Call::post("/containers/create").query("name", name).query_text("platform", platform);
        self.json(call.json(request)).await
    }

    /// Starts a container; one that runs is fine.
    pub async fn start(&self, id: &str) -> Answer<()> {
        self.done(Call::post(path("/containers", id, "/start"))).await
    }

    /// Starts a container whose published ports another one still has.
    pub async fn start_without_ports(&self, id: &str) -> Answer<()> {
        self.done(Call::post(path("/containers", id, "/start")).query("ports", "later")).await
    }

    /// Published ports of one running container lead to another one from now on.
    pub async fn take_ports(&self, id: &str, from: &str) -> Answer<()> {
        self.done(Call::post(path("/ferry/containers", id, "/take-ports")).query("from", from)).await
    }

    /// Whether the engine can do that: Ferry's own can.
    pub async fn hands_over_ports(&self) -> Answer<bool> {
        let version: ferry_api::system::Version = self.json(Call::get("/version")).await?;
        Ok(version.platform.name == "Ferry")
    }

    /// Stops a container; one that does not run, or is gone, is fine.
    pub async fn stop(&self, id: &str, timeout: Option<Duration>) -> Answer<()> {
        let mut call = Call::post(path("/containers", id, "/stop"));
        if let Some(timeout) = timeout {
            call = call.query("t", timeout.as_secs().to_string());
        }
        gone_is_fine(self.done(call).await)
    }

    /// Sends a signal.
    pub async fn kill(&self, id: &str, signal: &str) -> Answer<()> {
        match self.done(Call::post(path("/containers", id, "/kill")).query_text("signal", signal)).await {
            // It ended in the meantime.
            Err(error) if error.status() == Some(409) => Ok(()),
            other => gone_is_fine(other),
        }
    }

    /// Restarts a container.
    pub async fn restart(&self, id: &str, timeout: Option<Duration>) -> Answer<()> {
        let mut call = Call::post(path("/containers", id, "/restart"));
        if let Some(timeout) = timeout {
            call = call.query("t", timeout.as_secs().to_string());
        }
        self.done(call).await
    }

    /// Pauses or resumes a container.
    pub async fn pause(&self, id: &str, on: bool) -> Answer<()> {
        self.done(Call::post(path("/containers", id, if on { "/pause" } else { "/unpause" }))).await
    }

    /// Removes a container; one that is gone is fine.
    pub async fn remove(&self, id: &str, volumes: bool, force: bool) -> Answer<()> {
        let call = Call::delete(path("/containers", id, "")).query_if("v", volumes).query_if("force", force);
        match self.done(call).await {
            // Somebody else removes it at this moment.
            Err(error)
                if error.status() == Some(409) && error.to_string().contains("already in progress") =>
            {
                Ok(())
            }
            other => gone_is_fine(other),
        }
    }

    /// Renames a container.
    pub async fn rename(&self, id: &str, name: &str) -> Answer<()> {
        self.done(Call::post(path("/containers", id, "/rename")).query("name", name)).await
    }

    /// Creates a network.
    pub async fn create_network(&self, request: &network::CreateRequest) -> Answer<network::CreateResponse> {
        self.json(Call::post("/networks/create").json(request)).await
    }

    /// One network.
    pub async fn network(&self, id: &str) -> Answer<network::Network> {
        self.json(Call::get(path("/networks", id, ""))).await
    }

    /// Removes a network; one that is gone is fine.
    pub async fn remove_network(&self, id: &str) -> Answer<()> {
        gone_is_fine(self.done(Call::delete(path("/networks", id, ""))).await)
    }

    /// Puts a container on a network.
    pub async fn connect(&self, network: &str, request: &network::ConnectRequest) -> Answer<()> {
        self.done(Call::post(path("/networks", network, "/connect")).json(request)).await
    }

    /// Takes a container off a network.
    pub async fn disconnect(&self, network: &str, container: &str) -> Answer<()> {
        let request = network::DisconnectRequest { container: container.to_owned(), force: true };
        gone_is_fine(self.done(Call::post(path("/networks", network, "/disconnect")).json(&request)).await)
    }

    /// Creates a volume.
    pub async fn create_volume(&self, request: &volume::CreateRequest) -> Answer<volume::Volume> {
        self.json(Call::post("/volumes/create").json(request)).await
    }

    /// Removes a volume; one that is gone is fine.
    pub async fn remove_volume(&self, name: &str) -> Answer<()> {
        gone_is_fine(self.done(Call::delete(path("/volumes", name, ""))).await)
    }

    /// Removes an image; false when it was not there.
    pub async fn remove_image(&self, name: &str) -> Answer<bool> {
        match self.done(Call::delete(path("/images", name, ""))).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs a command in a container to its end, output discarded; gives its exit code.
    pub async fn exec_silently(
        &self,
        container: &str,
        request: &ferry_api::exec::ExecCreateRequest,
    ) -> Answer<i64> {
        let id: ferry_api::container::IdResponse =
            self.json(Call::post(path("/containers", container, "/exec")).json(request)).await?;
        let start = ExecStartRequest { detach: false, tty: false, console_size: None };
        let mut stream = self.client.hijack(Call::post(path("/exec", &id.id, "/start")).json(&start)).await?;
        tokio::io::copy(&mut stream.reader, &mut tokio::io::sink()).await.map_err(ClientError::Stream)?;
        let done: ExecInspect = self.json(Call::get(path("/exec", &id.id, "/json"))).await?;
        Ok(done.exit_code.unwrap_or(0))
    }

    /// Writes an archive into a container's file system.
    pub async fn put_archive(&self, id: &str, directory: &str, archive: Vec<u8>) -> Answer<()> {
        let body = futures_util::stream::once(async move { Ok(Bytes::from(archive)) });
        let call = Call::put(path("/containers", id, "/archive")).query("path", directory);
        self.done(call.stream("application/x-tar", body)).await
    }

    /// The last lines a container wrote.
    pub async fn last_lines(&self, id: &str, lines: usize, tty: bool) -> Answer<Vec<String>> {
        let call = Call::get(path("/containers", id, "/logs")).query("stdout", "1").query("stderr", "1");
        let bytes = self.client.call(call.query("tail", lines.to_string())).await?.bytes().await?;
        let text = if tty { bytes.to_vec() } else { plain(&bytes) };
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Waits for a container's end and gives its exit code.
    pub async fn wait(&self, id: &str) -> Answer<i64> {
        let answer: ferry_api::container::WaitResponse =
            self.json(Call::post(path("/containers", id, "/wait"))).await?;
        Ok(answer.status_code)
    }

    /// The labels of everything of this project.
    pub fn labels(
        &self,
        key: &str,
        name: &str,
        own: &BTreeMap<String, String>,
        hash: &str,
        docker_hash: &str,
    ) -> BTreeMap<String, String> {
        let mut all = own.clone();
        let mut set = |key: &str, value: &str| drop(all.insert(key.to_owned(), value.to_owned()));
        set(labels::PROJECT, &self.project);
        set(key, name);
        set(labels::VERSION, labels::OWN_VERSION);
        set(labels::CONFIG_HASH, docker_hash);
        set(labels::HASH, hash);
        set(labels::HASH_VERSION, crate::hash::VERSION);
        all
    }
}

/// `/containers` + an id or name + what of it.
pub(crate) fn path(collection: &str, name: &str, rest: &str) -> String {
    format!("{collection}/{}{rest}", Call::segment(name))
}

fn gone_is_fine(answer: Answer<()>) -> Answer<()> {
    match answer {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// The payload of a multiplexed stream; what cannot be cut into frames is dropped.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = ferry_api::multiplex::Decoder::default();
    decoder.push(bytes);
    let mut out = Vec::new();
    while let Ok(Some((_, piece))) = decoder.next_piece() {
        out.extend_from_slice(&piece);
    }
    out
}

/// Names the attempt in an error.
pub(super) fn trying<T>(subject: impl Into<String>, answer: Answer<T>) -> Result<T, ApplyError> {
    answer.map_err(ApplyError::engine(subject))
}
