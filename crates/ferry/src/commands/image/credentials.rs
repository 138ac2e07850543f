//! `login logout`, and the credentials that calls to registries carry.
//!
//! They come from `DOCKER_AUTH_CONFIG`, else from the program that `credHelpers` or `credsStore` names, else from the
//! configuration file. No message holds one.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use ferry_api::Call;
use ferry_api::image::{AuthConfig, AuthResponse};
use serde_json::{Value as Json, json};

use crate::config_file::{ConfigFile, StoredAuth};
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::{Session, environment};
use crate::terminal;

/// The name under which credentials for Docker Hub are kept.
const HUB: &str = "https://index.docker.io/v1/";
/// The user name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";

crate::flags! {
    /// Flags of `login`.
    pub struct LoginFlags {
        password: Option<String> = 'p' "password" <string> "Password or Personal Access Token (PAT)";
        password_stdin: bool = '-' "password-stdin" "Take the Password or Personal Access Token (PAT) from stdin";
        username: Option<String> = 'u' "username" <string> "Username";
    }
}

/// The registry that a name is of, as credentials are kept for it.
pub fn registry_of(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// Tells how to log in where a registry refuses for want of it, and how to do without TLS where it has none.
pub fn with_login_hint(session: &Session, name: &str, failure: Failure) -> Failure {
    if failure.message.contains("HTTP response to HTTPS client") {
        let registry = registry_of(name);
        return failure.hint(format!(
            "if that registry shall be used without TLS, start the engine with --insecure-registry {registry}"
        ));
    }
    const SIGNS: [&str; 3] = ["may require 'docker login'", "no basic auth credentials", "toomanyrequests"];
    if !SIGNS.iter().any(|sign| failure.message.contains(sign)) {
        return failure;
    }
    let server = match registry_of(name) {
        HUB => String::new(),
        registry => format!(" {registry}"),
    };
    failure.hint(format!("log in with '{} login{server}'", session.called))
}

/// The header with the credentials that are kept for a registry; none where there are none.
pub fn auth_header(config: &ConfigFile, registry: &str) -> Result<String, Failure> {
    let auth = stored_credentials(config, registry)?;
    let json = serde_json::to_vec(&auth).expect("credentials are texts");
    Ok(BASE64_URL_SAFE.encode(json))
}

/// The credentials of all registries, for builds that pull their bases.
pub fn registry_config(session: &Session) -> Result<String, Failure> {
    let config = session.config();
    let names = config.auths.keys().chain(config.cred_helpers.keys());
    let known: std::collections::BTreeMap<&String, AuthConfig> =
        names.map(|name| Ok((name, stored_credentials(config, name)?))).collect::<Result<_, Failure>>()?;
    let json = serde_json::to_vec(&known).expect("credentials are texts");
    Ok(BASE64_URL_SAFE.encode(json))
}

fn stored_credentials(config: &ConfigFile, registry: &str) -> Result<AuthConfig, Failure> {
    if let Some(auth) = from_environment(registry)? {
        return Ok(auth);
    }
    if let Some(helper) = helper_of(config, registry)
        && let Some(auth) = ask_helper(helper, registry)?
    {
        return Ok(auth);
    }
    let known = config.auths.iter().find(|(name, _)| plain_host(name) == plain_host(registry));
    Ok(known.map(|(_, stored)| decoded(stored, registry)).unwrap_or_default())
}

/// The program that keeps the credentials of a registry.
fn helper_of<'a>(config: &'a ConfigFile, registry: &str) -> Option<&'a str> {
    let own = config.cred_helpers.iter().find(|(name, _)| plain_host(name) == plain_host(registry));
    Some(own.map_or(config.creds_store.as_str(), |(_, helper)| helper)).filter(|helper| !helper.is_empty())
}

/// What `DOCKER_AUTH_CONFIG` says: the `auths` of a configuration file, for machines without one.
fn from_environment(registry: &str) -> Result<Option<AuthConfig>, Failure> {
    let Some(text) = environment("DOCKER_AUTH_CONFIG") else { return Ok(None) };
    let given: ConfigFile = serde_json::from_str(&text).map_err(|error| {
        // What stands there is secret, so only the place of the mistake is told.
        Failure::new(format!(
            "DOCKER_AUTH_CONFIG is no valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    let known = given.auths.iter().find(|(name, _)| plain_host(name) == plain_host(registry));
    Ok(known.map(|(_, stored)| decoded(stored, registry)))
}

fn decoded(stored: &StoredAuth, registry: &str) -> AuthConfig {
    let text = BASE64_STANDARD.decode(&stored.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let said = text.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = said.unwrap_or((&stored.username, &stored.password));
    AuthConfig {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
        identitytoken: stored.identitytoken.clone(),
        registrytoken: stored.registrytoken.clone(),
        serveraddress: registry.to_owned(),
        ..Default::default()
    }
}

/// `https://host/v1/` and `host` are kept as the same.
fn plain_host(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

/// Asks `docker-credential-NAME`.
fn ask_helper(helper: &str, registry: &str) -> Result<Option<AuthConfig>, Failure> {
    let Ok(output) = run_helper(helper, "get", registry.as_bytes())? else { return Ok(None) };
    let answer: Json = serde_json::from_slice(&output).map_err(|error| {
        Failure::new(format!("docker-credential-{helper} answered no JSON (column {})", error.column()))
    })?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let (username, secret) = (text("Username"), text("Secret"));
    let mut auth = AuthConfig { serveraddress: registry.to_owned(), ..Default::default() };
    if username == TOKEN_USER {
        auth.identitytoken = secret;
    } else {
        (auth.username, auth.password) = (username, secret);
    }
    Ok(Some(auth))
}

/// Runs `docker-credential-NAME VERB` with this input; gives its output, or what it said when it refused.
fn run_helper(helper: &str, verb: &str, input: &[u8]) -> Result<Result<Vec<u8>, String>, Failure> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: io::Error| {
        Failure::from_error(&error).context(&format!("cannot run {program}")).hint(
            "credsStore and credHelpers in the client's config.json name the programs that keep credentials",
        )
    };
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // One that knows its answer without reading is right too.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok(match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
    })
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
    keep(session.config(), server, &username, &password, &answer.identity_token)?;
    output::line(if answer.status.is_empty() { "Login Succeeded" } else { &answer.status })?;
    Ok(0)
}

/// Keeps credentials: with the registry's helper, else in the configuration file.
fn keep(
    config: &ConfigFile,
    server: &str,
    username: &str,
    password: &str,
    identity_token: &str,
) -> Result<(), Failure> {
    if let Some(helper) = helper_of(config, server) {
        let (user, secret) = match identity_token {
            "" => (username, password),
            token => (TOKEN_USER, token),
        };
        let entry = json!({ "ServerURL": server, "Username": user, "Secret": secret }).to_string();
        return run_helper(helper, "store", entry.as_bytes())?.map(drop).map_err(|said| {
            Failure::new(format!("docker-credential-{helper} does not keep the credentials: {said}"))
        });
    }
    let entry = match identity_token {
        "" => json!({"auth": BASE64_STANDARD.encode(format!("{username}:{password}"))}),
        token => json!({"auth": BASE64_STANDARD.encode(format!("{username}:")), "identitytoken": token}),
    };
    let path = config.edit(|map| remember(map, server, entry))?;
    output::note(&format!(
        "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.",
        path.display()
    ));
    Ok(())
}

/// Puts what is known of a registry into the settings. What is no table there was passed over when they were read,
/// and is replaced.
fn remember(map: &mut serde_json::Map<String, Json>, server: &str, entry: Json) {
    let auths = map.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    auths[server] = entry;
}

/// Takes out what is known of a registry.
fn forget(map: &mut serde_json::Map<String, Json>, server: &str) {
    if let Some(Json::Object(auths)) = map.get_mut("auths") {
        auths.retain(|name, _| plain_host(name) != plain_host(server));
    }
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
    let config = session.config();
    let kept = match helper_of(config, server) {
        Some(helper) => ask_helper(helper, server)?.is_some(),
        None => false,
    };
    let known = config.auths.keys().any(|name| plain_host(name) == plain_host(server));
    if !known && !kept {
        output::line(&format!("Not logged in to {server}"))?;
        return Ok(0);
    }
    output::line(&format!("Removing login credentials for {server}"))?;
    if let Some(helper) = helper_of(config, server).filter(|_| kept) {
        run_helper(helper, "erase", server.as_bytes())?.map_err(|said| {
            Failure::new(format!("docker-credential-{helper} does not forget the credentials: {said}"))
        })?;
    }
    if !known {
        return Ok(0);
    }
    session.config().edit(|map| forget(map, server))?;
    Ok(0)
}

#[cfg(test)]
#[path = "../../../../../tests/fuzz/driver.rs"]
#[allow(dead_code, reason = "nothing here is a fuzz target of its own")]
mod driver;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever stands in the settings: they are read or refused, and what is put in comes out again.
    fn settings(bytes: &[u8]) {
        if let Ok(config) = serde_json::from_slice::<ConfigFile>(bytes) {
            for (name, stored) in &config.auths {
                assert_eq!(decoded(stored, name).serveraddress, *name);
                let _ = helper_of(&config, name);
            }
        }
        let Ok(mut map) = serde_json::from_slice::<serde_json::Map<String, Json>>(bytes) else { return };
        let others = |map: &serde_json::Map<String, Json>| {
            let kept = map.iter().filter(|(name, _)| *name != "auths");
            kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        let before = others(&map);
        remember(&mut map, "new.example:5000", json!({ "auth": "YW5uOnNlY3JldDp3b3Jk" }));
        assert_eq!(others(&map), before);
        let kept: StoredAuth = serde_json::from_value(map["auths"]["new.example:5000"].clone()).unwrap();
        let known = decoded(&kept, "new.example:5000");
        assert_eq!((known.username.as_str(), known.password.as_str()), ("ann", "secret:word"));
        forget(&mut map, "https://new.example:5000/v1/");
        assert_eq!(map["auths"].get("new.example:5000"), None);
    }

    #[test]
    fn mutations_of_the_clients_settings() {
        let seeds: [&[u8]; 4] = [
            br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNz"},"a.example":{"identitytoken":"t"}},"credsStore":"x"}"#,
            br#"{"auths":{"b":{"username":"u","password":"p","auth":""}},"credHelpers":{"b":"y"},"HttpHeaders":{"A":"b"}}"#,
            br#"{"auths":null,"proxies":{"default":{"httpProxy":"http://p","noProxy":"x,y"}},"psFormat":"{{.ID}}"}"#,
            br#"{"auths":["a"],"detachKeys":"ctrl-a","currentContext":"c","unknown":{"deep":[1,2,{}]}}"#,
        ];
        let pieces: [&[u8]; 12] = [
            b"null",
            b"{}",
            b"[]",
            b"\"",
            b",",
            b":",
            b"\"auths\":",
            b"\\u0000",
            b"\xff",
            b"1e999",
            b"Og==",
            b"==",
        ];
        super::driver::feed(settings, &seeds, &pieces);
    }

    #[test]
    fn registries() {
        for (name, registry) in [
            ("busybox:1", HUB),
            ("me/app:1", HUB),
            ("localhost:5000/app:1", "localhost:5000"),
            ("ghcr.io/me/app:1", "ghcr.io"),
        ] {
            assert_eq!(registry_of(name), registry);
        }
        assert_eq!(plain_host(HUB), "index.docker.io");
    }

    #[test]
    fn helpers() {
        let config = ConfigFile {
            creds_store: "all".into(),
            cred_helpers: [("https://one.example/v1/".to_owned(), "one".to_owned())].into(),
            ..ConfigFile::default()
        };
        assert_eq!(helper_of(&config, "one.example"), Some("one"));
        assert_eq!(helper_of(&config, "two.example"), Some("all"));
        assert_eq!(helper_of(&ConfigFile::default(), "two.example"), None);
    }
}
