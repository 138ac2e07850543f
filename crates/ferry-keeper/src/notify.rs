//! What a keeper tells the service manager that started it (sd_notify(3)).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whether a service manager started this process and listens.
pub fn is_expected() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells that clients can connect, and which process to supervise. Where nobody listens nothing happens; a message
/// that is lost shows as a start that takes too long, which the service manager tells.
pub fn ready(main_pid: i32) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message = format!("READY=1\nMAINPID={main_pid}\n");
    let _ = address(&socket)
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address));
}

fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address(OsStr::new("@x")).unwrap().as_abstract_name(), Some(b"x".as_slice()));
        assert_eq!(address(OsStr::new("/run/x")).unwrap().as_pathname(), Some("/run/x".as_ref()));
    }
}
