//! `hello web`: a page that counts its visits, in a store where there is one.
//!
//! The store is at the address in `STORE` (`host` or `host:port`), else at the host `store` where that
//! name is known; without either the count lasts as long as this process. `PAGE` names a file that takes
//! the place of the built-in page.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{hostname, resolve, store};

/// The port when `PORT` names none.
const DEFAULT_PORT: u16 = 80;
/// Longest head of a request.
const MAX_HEAD: u64 = 16 * 1024;
/// How long a client or the store may take for a step.
const PATIENCE: Duration = Duration::from_secs(5);

static OWN_HITS: AtomicU64 = AtomicU64::new(0);

/// Serves for ever.
pub fn serve() -> io::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(text) => text.parse().map_err(|_| io::Error::other(format!("PORT={text} is no port")))?,
        Err(_) => DEFAULT_PORT,
    };
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    println!("web: listening on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that goes away in the middle concerns nobody else.
            let _ = talk(stream);
        });
    }
    Ok(())
}

fn talk(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?).take(MAX_HEAD);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = page(first.split(' ').next().unwrap_or_default(), &path);
    println!("web: {} {path} {}", first.split(' ').next().unwrap_or_default(), answer.status);
    let body = if first.starts_with("HEAD ") { "" } else { answer.body.as_str() };
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Type: {}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        answer.status,
        answer.kind,
        answer.body.len()
    )
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

fn page(method: &str, path: &str) -> Answer {
    let text = |status, body: String| Answer { status, kind: "text/plain", body };
    match (method, path.split('?').next().unwrap_or(path)) {
        ("GET" | "HEAD", "/") => match hit() {
            Ok((hits, place)) => match own_page(hits, &place) {
                Ok(page) => {
                    let body = page.unwrap_or_else(|| html(hits, &place));
                    Answer { status: "200 OK", kind: "text/html", body }
                }
                Err(error) => text("500 Internal Server Error", format!("{error}\n")),
            },
            Err(error) => text("502 Bad Gateway", format!("the store does not answer: {error}\n")),
        },
        ("GET" | "HEAD", "/count") => match count() {
            Ok(hits) => text("200 OK", format!("{hits}\n")),
            Err(error) => text("502 Bad Gateway", format!("the store does not answer: {error}\n")),
        },
        ("GET" | "HEAD", "/healthz") => text("200 OK", "ok\n".into()),
        ("GET" | "HEAD", _) => text("404 Not Found", "not found\n".into()),
        _ => text("405 Method Not Allowed", "only GET and HEAD\n".into()),
    }
}

/// The page in the file that `PAGE` names, if it names one; `{hits}`, `{host}` and `{place}` are filled in.
fn own_page(hits: u64, place: &str) -> io::Result<Option<String>> {
    let Some(path) = std::env::var_os("PAGE").filter(|path| !path.is_empty()) else { return Ok(None) };
    let page = std::fs::read_to_string(&path)
        .map_err(|error| io::Error::other(format!("PAGE={}: {error}", path.display())))?;
    let filled = page.replace("{hits}", &hits.to_string()).replace("{host}", &hostname());
    Ok(Some(filled.replace("{place}", place)))
}

fn html(hits: u64, place: &str) -> String {
    let times = if hits == 1 { "time" } else { "times" };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Hello from Ferry</title>\n\
         <style>body{{font:18px/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto;padding:0 1em}}\
         b{{font-size:2em}}</style>\n\
         <h1>Hello from Ferry</h1>\n<p>This page has been seen <b>{hits}</b> {times}.</p>\n\
         <p>Served by container {}, counted {place}.</p>\n</html>\n",
        hostname()
    )
}

/// Counts a visit; gives the number and where it is kept.
fn hit() -> io::Result<(u64, String)> {
    match store_address()? {
        Some((name, address)) => Ok((ask(address, "add hits")?, format!("in the store {name}"))),
        None => Ok((OWN_HITS.fetch_add(1, Ordering::Relaxed) + 1, "in this process only".into())),
    }
}

/// The count so far.
pub fn count() -> io::Result<u64> {
    match store_address()? {
        Some((_, address)) => ask(address, "get hits"),
        None => Ok(OWN_HITS.load(Ordering::Relaxed)),
    }
}

fn ask(address: SocketAddr, question: &str) -> io::Result<u64> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(&stream, "{question}")?;
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_HEAD).read_line(&mut answer)?;
    answer.trim().parse().map_err(|_| io::Error::other(format!("it said {:?}", answer.trim())))
}

/// The store's name and address; None where there is none.
fn store_address() -> io::Result<Option<(String, SocketAddr)>> {
    let given = std::env::var("STORE").ok().filter(|given| !given.is_empty());
    let name = given.clone().unwrap_or_else(|| "store".into());
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (
            host.to_owned(),
            port.parse().map_err(|_| io::Error::other(format!("STORE={name} has no usable port")))?,
        ),
        None => (name.clone(), store::PORT),
    };
    match resolve::resolve(&host)? {
        Some(ip) => Ok(Some((name, SocketAddr::new(ip, port)))),
        None if given.is_some() => Err(io::Error::other(format!("the host {host} is not known"))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        assert_eq!(page("GET", "/healthz").status, "200 OK");
        assert_eq!(page("GET", "/nope").status, "404 Not Found");
        assert_eq!(page("POST", "/").status, "405 Method Not Allowed");
        assert!(html(1, "here").contains("<b>1</b> time."));
    }
}
