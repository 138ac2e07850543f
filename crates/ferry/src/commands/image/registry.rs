//! `pull push login logout search`.

use std::io::{self, Read as _, Write as _};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use ferry_api::image::{AuthConfig, AuthResponse, SearchResult};
use ferry_api::{Call, Client};
use serde_json::{Value as Json, json};

use crate::commands::filters;
use crate::config_file::ConfigFile;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::output::format::{Choice, List, ellipsis};
use crate::output::progress::{self, To};
use crate::session::Session;
use crate::template::Value;
use crate::terminal;

/// The name under which credentials for Docker Hub are kept.
const HUB: &str = "https://index.docker.io/v1/";

crate::flags! {
    /// Flags of `pull`.
    pub struct PullFlags {
        all_tags: bool = 'a' "all-tags" "Download all tagged images in the repository";
        disable_content_trust: Option<bool> = '-' "disable-content-trust" "Skip image verification (default true)";
        platform: String = '-' "platform" <string> "Set platform if server is multi-platform capable";
        quiet: bool = 'q' "quiet" "Suppress verbose output";
    }
}

crate::flags! {
    /// Flags of `push`.
    pub struct PushFlags {
        all_tags: bool = 'a' "all-tags" "Push all tags of an image to the repository";
        disable_content_trust: Option<bool> = '-' "disable-content-trust" "Skip image signing (default true)";
        platform: String = '-' "platform" <string> "Push a platform-specific manifest as a single-platform image to the registry";
        quiet: bool = 'q' "quiet" "Suppress verbose output";
    }
}

crate::flags! {
    /// Flags of `login`.
    pub struct LoginFlags {
        password: Option<String> = 'p' "password" <string> "Password or Personal Access Token (PAT)";
        password_stdin: bool = '-' "password-stdin" "Take the Password or Personal Access Token (PAT) from stdin";
        username: Option<String> = 'u' "username" <string> "Username";
    }
}

crate::flags! {
    /// Flags of `search`.
    pub struct SearchFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Pretty-print search using a Go template";
        limit: Option<i64> = '-' "limit" <int> "Max number of search results";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
    }
}

/// The registry that a name is of, as credentials are kept for it.
fn registry_of(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// The header with the credentials that are kept for a registry; none where there are none.
fn auth_header(config: &ConfigFile, registry: &str) -> Result<String, Failure> {
    let auth = stored_credentials(config, registry)?;
    let json = serde_json::to_vec(&auth).expect("credentials are texts");
    Ok(BASE64_URL_SAFE.encode(json))
}

fn stored_credentials(config: &ConfigFile, registry: &str) -> Result<AuthConfig, Failure> {
    let helper = config.cred_helpers.get(registry).unwrap_or(&config.creds_store);
    if !helper.is_empty()
        && let Some(auth) = ask_helper(helper, registry)?
    {
        return Ok(auth);
    }
    let known = config.auths.iter().find(|(name, _)| plain_host(name) == plain_host(registry));
    let Some((_, stored)) = known else { return Ok(AuthConfig::default()) };
    let decoded = BASE64_STANDARD.decode(&stored.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = decoded.as_deref().and_then(|text| text.split_once(':')).unwrap_or_default();
    Ok(AuthConfig {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
        identitytoken: stored.identitytoken.clone(),
        serveraddress: registry.to_owned(),
        ..Default::default()
    })
}

/// `https://host/v1/` and `host` are kept as the same.
fn plain_host(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

/// Asks `docker-credential-NAME`.
fn ask_helper(helper: &str, registry: &str) -> Result<Option<AuthConfig>, Failure> {
    let program = format!("docker-credential-{helper}");
    let failed =
        |error: io::Error| Failure::from(error).context(&format!("cannot ask {program} for credentials"));
    let mut child = std::process::Command::new(&program)
        .arg("get")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(registry.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Ok(None);
    }
    let answer: Json = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::from_error(&error).context(&format!("{program} answered no JSON")))?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let (username, secret) = (text("Username"), text("Secret"));
    let mut auth = AuthConfig { serveraddress: registry.to_owned(), ..Default::default() };
    if username == "<token>" {
        auth.identitytoken = secret;
    } else {
        (auth.username, auth.password) = (username, secret);
    }
    Ok(Some(auth))
}

/// Fetches an image and shows how it goes.
pub async fn pull_image(
    session: &Session,
    client: &Client,
    name: &str,
    platform: &str,
    to: To,
) -> Result<(), Failure> {
    progress::show(client.call(pull_call(session, name, platform)?).await?, to).await?;
    Ok(())
}

/// The call that pulls an image, with the credentials of its registry.
pub fn pull_call(session: &Session, name: &str, platform: &str) -> Result<Call, Failure> {
    let full = super::with_tag(name);
    let (repository, tag) = match full.split_once('@') {
        Some((repository, digest)) => (repository, digest),
        None => super::split_tag(&full),
    };
    Ok(Call::post("/images/create")
        .query("fromImage", repository)
        .query_text("tag", tag)
        .query_text("platform", platform)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?))
}

async fn fetch(
    session: &Session,
    client: &Client,
    repository: &str,
    tag: &str,
    platform: &str,
    to: To,
) -> Result<(), Failure> {
    let call = Call::post("/images/create")
        .query("fromImage", repository)
        .query_text("tag", tag)
        .query_text("platform", platform)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?);
    progress::show(client.call(call).await?, to).await?;
    Ok(())
}

/// Runs `pull`.
pub async fn pull(session: &Session, flags: PullFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let client = session.engine().await?;
    let to = if flags.quiet { To::Nowhere } else { To::Stdout };
    if flags.all_tags {
        if !super::split_tag(name).1.is_empty() || name.contains('@') {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        fetch(session, client, name, "", &flags.platform, to).await?;
        return Ok(0);
    }
    let full = super::with_tag(name);
    if full != *name && !flags.quiet {
        output::line("Using default tag: latest")?;
    }
    pull_image(session, client, name, &flags.platform, to).await?;
    output::line(&full_name(&full))?;
    Ok(0)
}

/// `docker.io/library/busybox:latest`.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Runs `push`.
pub async fn push(session: &Session, flags: PushFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let (repository, tag) = super::split_tag(name);
    if flags.all_tags && !tag.is_empty() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let tag = match (flags.all_tags, tag) {
        (true, _) => "",
        (false, "") => "latest",
        (false, tag) => tag,
    };
    if !flags.all_tags && tag == "latest" && !name.ends_with(":latest") && !flags.quiet {
        output::line("Using default tag: latest")?;
    }
    let call = Call::post(format!("/images/{}/push", Call::segment(repository)))
        .query_text("tag", tag)
        .query_text("platform", &flags.platform)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?);
    let to = if flags.quiet { To::Nowhere } else { To::Stdout };
    progress::show(session.engine().await?.call(call).await?, to).await?;
    if flags.quiet {
        output::line(&full_name(&format!("{repository}:{tag}")))?;
    }
    Ok(0)
}

/// Runs `login`.
pub async fn login(session: &Session, flags: LoginFlags, arguments: Vec<String>) -> Outcome {
    let server = arguments.first().map_or(HUB, String::as_str);
    let server = if matches!(server, "docker.io" | "index.docker.io") { HUB } else { server };
    let username = match flags.username {
        Some(name) => name,
        None if flags.password_stdin => {
            return Err(Failure::new("must provide --username with --password-stdin"));
        }
        None => prompt("Username: ", false)?,
    };
    let password = match (flags.password, flags.password_stdin) {
        (Some(_), true) => {
            return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
        }
        (Some(password), false) => {
            output::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password
        }
        (None, true) => {
            let mut password = String::new();
            io::stdin().read_to_string(&mut password)?;
            password.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, false) => prompt("Password: ", true)?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::new("username and password are both needed"));
    }
    let auth = AuthConfig {
        username: username.clone(),
        password: password.clone(),
        serveraddress: server.to_owned(),
        ..Default::default()
    };
    let answer: AuthResponse =
        session.engine().await?.call(Call::post("/auth").json(&auth)).await?.json().await?;
    let entry = match answer.identity_token.as_str() {
        "" => json!({"auth": BASE64_STANDARD.encode(format!("{username}:{password}"))}),
        token => json!({"auth": BASE64_STANDARD.encode(format!("{username}:")), "identitytoken": token}),
    };
    let path = session.config().edit(|map| {
        let auths = map.entry("auths").or_insert_with(|| json!({}));
        auths[server] = entry;
    })?;
    output::note(&format!(
        "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.",
        path.display()
    ));
    output::line(if answer.status.is_empty() { "Login Succeeded" } else { &answer.status })?;
    Ok(0)
}

/// Asks on the terminal; what is typed for a secret is not shown.
fn prompt(question: &str, secret: bool) -> Result<String, Failure> {
    if !terminal::stdin_is_terminal() {
        return Err(Failure::new("cannot perform an interactive login from a non TTY device")
            .hint("give --username, and the password through --password-stdin"));
    }
    output::write(question.as_bytes())?;
    let before = rustix::termios::tcgetattr(io::stdin()).map_err(io::Error::from)?;
    if secret {
        let mut hidden = before.clone();
        hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &hidden)
            .map_err(io::Error::from)?;
    }
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if secret {
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &before)
            .map_err(io::Error::from)?;
        output::line("")?;
    }
    read?;
    Ok(answer.trim().to_owned())
}

/// Runs `logout`.
pub async fn logout(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let server = arguments.first().map_or(HUB, String::as_str);
    let known = session.config().auths.keys().any(|name| plain_host(name) == plain_host(server));
    if !known {
        output::line(&format!("Not logged in to {server}"))?;
        return Ok(0);
    }
    output::line(&format!("Removing login credentials for {server}"))?;
    session.config().edit(|map| {
        if let Some(Json::Object(auths)) = map.get_mut("auths") {
            auths.retain(|name, _| plain_host(name) != plain_host(server));
        }
    })?;
    Ok(0)
}

static SEARCH: List = List {
    columns: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    default: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "",
};

/// Runs `search`.
pub async fn search(session: &Session, flags: SearchFlags, arguments: Vec<String>) -> Outcome {
    let mut call = Call::get("/images/search")
        .query("term", &arguments[0])
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(&arguments[0]))?);
    if let Some(limit) = flags.limit {
        call = call.query("limit", limit.to_string());
    }
    let filters = filters(&flags.filter)?;
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let results: Vec<SearchResult> = session.engine().await?.call(call).await?.json().await?;
    let mark = |on: bool| Value::text(if on { "[OK]" } else { "" });
    let rows = results.iter().map(|result| {
        let description = result.description.replace(['\n', '\r'], " ");
        vec![
            ("Name", Value::text(result.name.as_str())),
            (
                "Description",
                Value::text(if flags.no_trunc { description } else { ellipsis(&description, 45) }),
            ),
            ("StarCount", Value::text(result.star_count.to_string())),
            ("IsOfficial", mark(result.is_official)),
            ("IsAutomated", mark(result.is_automated)),
        ]
    });
    let choice = Choice { format: flags.format, ..Default::default() };
    SEARCH.print(&choice, rows.collect())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries() {
        for (name, registry, full) in [
            ("busybox:1", HUB, "docker.io/library/busybox:1"),
            ("me/app:1", HUB, "docker.io/me/app:1"),
            ("localhost:5000/app:1", "localhost:5000", "localhost:5000/app:1"),
            ("ghcr.io/me/app:1", "ghcr.io", "ghcr.io/me/app:1"),
        ] {
            assert_eq!((registry_of(name), full_name(name).as_str()), (registry, full));
        }
        assert_eq!(plain_host(HUB), "index.docker.io");
    }
}
