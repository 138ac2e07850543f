//! DNS over TCP: a short-lived helper thread per connection. Clients use it for
//! the rare answer that does not fit a datagram.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::message::{self, Code, Parsed};
use super::server::{Client, Shared};

/// Connections served at once; more are closed, and their clients come back.
const MOST_HELPERS: usize = 32;
/// How long a connection may be silent, and an outside server may take.
const PATIENCE: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 128 << 10;
const DNS_PORT: u16 = 53;
/// The format's own limit: lengths are 16 bits.
const LARGEST_ANSWER: usize = u16::MAX as usize;

/// Accepts what is queued.
pub(super) fn accept(shared: &Arc<Shared>, client: &Arc<Client>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.tcp_helpers.fetch_add(1, Ordering::Relaxed) >= MOST_HELPERS {
            shared.tcp_helpers.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (helper, client) = (Arc::clone(shared), Arc::clone(client));
        let spawned =
            std::thread::Builder::new().name("dns-tcp".into()).stack_size(STACK_BYTES).spawn(move || {
                // An error ends the connection, which is all a client needs to know.
                let _ = serve(&helper, &client, stream);
                helper.tcp_helpers.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            shared.tcp_helpers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(shared: &Shared, client: &Client, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        let query = read_message(&mut stream)?;
        let reply = match message::parse(&query) {
            Parsed::Ignored => return Ok(()),
            Parsed::Refused(code) => message::refusal(&query, code),
            Parsed::Query(parsed) => {
                let here = shared.answer_here(&client.sandbox, &query, &parsed, LARGEST_ANSWER);
                here.or_else(|| ask_outside(shared, client, &query)).unwrap_or_else(|| {
                    message::answer(&query, &parsed, Code::ServerFailure, &[], LARGEST_ANSWER)
                })
            }
        };
        write_message(&mut stream, &reply)?;
    }
}

fn ask_outside(shared: &Shared, client: &Client, query: &[u8]) -> Option<Vec<u8>> {
    let bare = message::without_cookies(query);
    let query = bare.as_deref().unwrap_or(query);
    let (servers, own) = shared.servers(&client.sandbox);
    // This thread serves one connection of one container and then ends, so it may
    // stay where it goes.
    if own && client.namespace.enter().is_err() {
        return None;
    }
    servers.into_iter().find_map(|server| {
        let answer = ask(server, query).ok()?;
        message::answer_code(query, &answer).is_some().then_some(answer)
    })
}

fn ask(server: IpAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, DNS_PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_message(&mut stream, query)?;
    read_message(&mut stream)
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}
