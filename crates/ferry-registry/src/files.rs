//! Files of blobs: placed whole or not at all, found by digest, taken away through the trash.
//!
//! ```text
//! ROOT/VERSION                        format of this tree
//! ROOT/metadata.redb                  the catalog
//! ROOT/blobs/sha256/ab/<hex>          verified blobs
//! ROOT/uploads/<id>, <id>.json        open uploads: bytes so far, and what is known of them
//! ROOT/token.key, tls/                key of tokens, own certificate
//! ROOT/instance                       what this registry is called among others over one bucket
//! ROOT/trash/                         thrown away, gone at the next sweep
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ferry_oci::{Algorithm, Digest};

/// Format of the tree.
const FORMAT: &str = "1\n";

/// The tree of files.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

/// A random name of 32 hex digits.
pub fn random_name() -> String {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("getrandom of 16 bytes cannot fail once the pool is seeded");
    hex::encode(bytes)
}

/// 32 random bytes, for a key.
pub fn random_key() -> Vec<u8> {
    let mut bytes = vec![0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("getrandom of 32 bytes cannot fail once the pool is seeded");
    bytes
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// An error that names the path.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Files {
    /// Opens or makes the tree.
    pub fn open(root: &Path) -> io::Result<Files> {
        let version = root.join("VERSION");
        for folder in ["", "blobs/sha256", "blobs/sha512", "uploads", "trash"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        match fs::read_to_string(&version) {
            Ok(format) if format == FORMAT => {}
            Ok(format) => {
                let text = format!("format {:?} is not known to this version", format.trim());
                return Err(at(&version)(io::Error::new(io::ErrorKind::Unsupported, text)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&version, FORMAT.as_bytes())?
            }
            Err(error) => return Err(at(&version)(error)),
        }
        Ok(Files { root: root.to_owned() })
    }

    /// Where the catalog lies.
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// Where open uploads lie.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// What this folder's registry is called among others over one bucket; made at the first start.
    pub fn instance(&self) -> io::Result<String> {
        let path = self.root.join("instance");
        match fs::read_to_string(&path) {
            Ok(name) if name.len() == 32 => Ok(name),
            _ => {
                let name = random_name();
                write_whole(&path, name.as_bytes())?;
                Ok(name)
            }
        }
    }

    /// Where own certificates lie.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// Where the key of tokens lies.
    pub fn token_key(&self) -> PathBuf {
        self.root.join("token.key")
    }

    fn folder(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str()).join(&digest.hex()[..2])
    }

    /// A blob's file.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder(digest).join(digest.hex())
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        let path = self.blob(digest);
        File::open(&path).map_err(at(&path))
    }

    /// Moves a whole, verified and synced file to its place among the blobs. Durable when it returns.
    pub fn place(&self, from: &Path, digest: &Digest) -> io::Result<()> {
        let folder = self.folder(digest);
        if !folder.is_dir() {
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            sync_folder(folder.parent().unwrap_or(&self.root))?;
        }
        let path = folder.join(digest.hex());
        fs::rename(from, &path).map_err(at(&path))?;
        sync_folder(&folder)
    }

    /// Takes a file out of sight; the disk's space comes back with [`Files::empty_trash`].
    pub fn discard(&self, path: &Path) -> io::Result<()> {
        match fs::rename(path, self.root.join("trash").join(random_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes for good what was discarded.
    pub fn empty_trash(&self) -> io::Result<()> {
        let trash = self.root.join("trash");
        for entry in fs::read_dir(&trash).map_err(at(&trash))? {
            let path = entry?.path();
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Every blob file of one algorithm, folder by folder.
    pub fn each_blob(&self, algorithm: Algorithm, mut visit: impl FnMut(Digest, &Path)) -> io::Result<()> {
        let top = self.root.join("blobs").join(algorithm.as_str());
        for folder in fs::read_dir(&top).map_err(at(&top))? {
            let folder = folder?.path();
            for entry in fs::read_dir(&folder).map_err(at(&folder))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if let Ok(digest) = Digest::parse(&format!("{algorithm}:{name}")) {
                    visit(digest, &path);
                }
            }
        }
        Ok(())
    }

    /// Free bytes of the file system.
    pub fn free_space(&self) -> io::Result<u64> {
        let numbers = rustix::fs::statvfs(&self.root)?;
        Ok(numbers.f_bavail * numbers.f_frsize)
    }
}

/// Writes a file whole or not at all, durable when it returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(at(&temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, path).map_err(at(path))?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}
