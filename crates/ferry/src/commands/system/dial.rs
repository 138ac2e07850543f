//! `system dial-stdio`: the engine's socket on stdin and stdout, for clients that come through ssh.

use ferry_api::Host;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::session::Session;

/// Runs `system dial-stdio`.
pub async fn dial_stdio(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    // Starts the engine where that is ours to do.
    let host = session.engine().await?.host().clone();
    let failed = |error: std::io::Error| Failure::from(error).context(&format!("cannot connect to {host}"));
    match &host {
        Host::Unix(path) => relay(UnixStream::connect(path).await.map_err(failed)?).await?,
        Host::Ssh(_) => {
            return Err(Failure::new(format!("{host} is reached through ssh already"))
                .hint("use it as the address of the other command directly"));
        }
        Host::Tcp(tcp) => relay(tcp.connect().await.map_err(failed)?).await?,
    }
    Ok(0)
}

async fn relay(stream: impl AsyncRead + AsyncWrite) -> std::io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let send = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut to).await?;
        to.shutdown().await?;
        // The engine's last answer decides when it is over.
        std::future::pending::<std::io::Result<()>>().await
    };
    let mut stdout = tokio::io::stdout();
    let receive = async {
        tokio::io::copy(&mut from, &mut stdout).await?;
        stdout.flush().await
    };
    tokio::select! {
        result = send => result,
        result = receive => result,
    }
}
