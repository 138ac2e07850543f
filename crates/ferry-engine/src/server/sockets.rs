//! The sockets with limits of this engine: kept in the store, bound by each engine anew.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ferry_store::{DatabaseError, Store, Table};
use http::StatusCode;
use tokio::sync::watch;

use super::listen::{ListenError, Listener};
use super::scope::{PARTS, Scope};
use crate::engine::Engine;
use crate::error::HttpStatus;

const TABLE: &str = "sockets";
/// Permissions where nobody says others: root and its group.
const MODE: u32 = 0o660;

/// Why there is no such socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A word that is no part of the API.
    #[error("--allow {0}: it is one of {parts}", parts = PARTS.join(", "))]
    Part(String),
    /// Nothing is allowed.
    #[error("a socket that allows nothing is of no use: --allow takes {parts}", parts = PARTS.join(", "))]
    Nothing,
    /// Not absolute.
    #[error("the socket {0} needs an absolute path")]
    Relative(PathBuf),
    /// Something is there.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// Nothing is there.
    #[error("there is no limited socket {0}")]
    NotFound(PathBuf),
    /// The kernel.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its permissions.
    #[error("set the permissions of the socket")]
    Mode(#[source] std::io::Error),
    /// The store.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl HttpStatus for SocketError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Part(_) | Self::Nothing | Self::Relative(_) | Self::Listen(_) => StatusCode::BAD_REQUEST,
            Self::Exists(_) => StatusCode::CONFLICT,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Mode(_) | Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One that is served.
struct Served {
    stop: watch::Sender<bool>,
    /// Number of its file: one that another engine has made since is left alone.
    inode: u64,
}

/// All of them.
pub struct Sockets {
    table: Table<Scope>,
    served: Mutex<BTreeMap<PathBuf, Served>>,
}

impl Sockets {
    /// Those of a store; none is served yet.
    pub fn open(store: &Store) -> Self {
        Self { table: store.kv(TABLE), served: Mutex::default() }
    }

    /// Every one, by path.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn list(&self) -> Result<Vec<Scope>, SocketError> {
        Ok(self.table.list()?.into_iter().map(|(_, scope)| scope).collect())
    }

    fn forget(&self, path: &Path) {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        if let Some(served) = served {
            let _ = served.stop.send(true);
            if std::fs::metadata(path).is_ok_and(|found| found.ino() == served.inode) {
                // The file is of no use without its engine.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Takes the files of all away; the next engine makes them again.
    pub fn close(&self) {
        let paths: Vec<PathBuf> =
            self.served.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        paths.iter().for_each(|path| self.forget(path));
    }
}

/// Serves all that are kept; one that cannot be is told in the log.
pub async fn restore(engine: &Arc<Engine>) {
    for scope in engine.sockets.list().unwrap_or_default() {
        let path = scope.path.clone();
        if let Err(error) = serve(engine, scope).await {
            tracing::error!(path = %path.display(), %error, "a limited socket is not served");
        }
    }
}

async fn serve(engine: &Arc<Engine>, scope: Scope) -> Result<(), SocketError> {
    let path = scope.path.clone();
    let listener = Listener::bind(&format!("unix://{}", path.display()), None).await?;
    let permissions = std::fs::Permissions::from_mode(scope.mode);
    std::fs::set_permissions(&path, permissions).map_err(SocketError::Mode)?;
    let inode = std::fs::metadata(&path).map_err(SocketError::Mode)?.ino();
    let (stop, stopped) = watch::channel(false);
    engine.sockets.served.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Served { stop, inode });
    let engine = Arc::clone(engine);
    tokio::spawn(async move { super::serve_limited(listener, engine, Arc::new(scope), stopped).await });
    Ok(())
}

/// Makes one and serves it.
///
/// # Errors
/// Where it makes no sense, its path is taken, or it cannot be kept.
pub async fn create(engine: &Arc<Engine>, mut scope: Scope) -> Result<(), SocketError> {
    if let Some(part) = scope.allow.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(SocketError::Part(part.clone()));
    }
    if scope.allow.is_empty() {
        return Err(SocketError::Nothing);
    }
    if !scope.path.is_absolute() {
        return Err(SocketError::Relative(scope.path));
    }
    if std::fs::symlink_metadata(&scope.path).is_ok() {
        return Err(SocketError::Exists(scope.path));
    }
    if scope.mode == 0 {
        scope.mode = MODE;
    }
    let path = scope.path.clone();
    serve(engine, scope.clone()).await?;
    engine
        .sockets
        .table
        .put(&path.display().to_string(), &scope)
        .inspect_err(|_| engine.sockets.forget(&path))?;
    Ok(())
}

/// Takes one away.
///
/// # Errors
/// Where there is none.
pub fn remove(engine: &Engine, path: &Path) -> Result<(), SocketError> {
    let key = path.display().to_string();
    if engine.sockets.table.get(&key)?.is_none() {
        return Err(SocketError::NotFound(path.to_owned()));
    }
    engine.sockets.table.remove(&key)?;
    engine.sockets.forget(path);
    Ok(())
}
