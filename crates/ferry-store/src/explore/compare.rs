//! How the file systems of two images differ.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{FileType, OFlags, Stat};
use serde::Serialize;

use super::ExploreError;
use super::union::{Meeting, Union, in_walking_order};
use crate::blob::COPY_BUFFER;
use crate::error::IoError;
use crate::image::Image;
use crate::store::Store;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ChangeKind {
    /// Only the second image has it.
    Added,
    /// Both have it, with other contents, owner, permissions or kind.
    Changed,
    /// Only the first image has it.
    Deleted,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// What became of it.
    pub kind: ChangeKind,
    /// The path.
    pub path: String,
    /// Bytes in the first image.
    pub before: u64,
    /// Bytes in the second.
    pub after: u64,
}

/// The files that a container of one image sees.
struct Side {
    union: Union,
    layers: Vec<ferry_oci::Digest>,
    head: Option<(Vec<u8>, usize, Stat)>,
}

impl Side {
    fn open(store: &Store, image: &Image) -> Result<Side, ExploreError> {
        let mut side = Side { union: Union::of(store, image)?, layers: image.diff_ids(), head: None };
        side.advance()?;
        Ok(side)
    }

    fn advance(&mut self) -> Result<(), ExploreError> {
        self.head = None;
        while let Some(meeting) = self.union.next()? {
            if let Some((layer, stat)) = meeting.visible().copied() {
                let Meeting { path, .. } = meeting;
                self.head = Some((path, layer, stat));
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Store {
    /// Tells `listener` each difference between two images, in the order of their paths. Times are not compared.
    pub fn compare(
        &self,
        first: &Image,
        second: &Image,
        mut listener: impl FnMut(Change) -> io::Result<()>,
    ) -> Result<(), ExploreError> {
        let (mut first, mut second) = (Side::open(self, first)?, Side::open(self, second)?);
        loop {
            let order = match (&first.head, &second.head) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, ..)), Some((b, ..))) => in_walking_order(a, b),
            };
            let change = match order {
                Ordering::Less => {
                    first.head.as_ref().map(|head| change(ChangeKind::Deleted, Some(head), None))
                }
                Ordering::Greater => {
                    second.head.as_ref().map(|head| change(ChangeKind::Added, None, Some(head)))
                }
                Ordering::Equal => match same(&first, &second)? {
                    true => None,
                    false => Some(change(ChangeKind::Changed, first.head.as_ref(), second.head.as_ref())),
                },
            };
            if let Some(change) = change {
                listener(change).map_err(ExploreError::Listener)?;
            }
            if order != Ordering::Greater {
                first.advance()?;
            }
            if order != Ordering::Less {
                second.advance()?;
            }
        }
    }
}

type Head = (Vec<u8>, usize, Stat);

fn change(kind: ChangeKind, first: Option<&Head>, second: Option<&Head>) -> Change {
    let size = |head: Option<&Head>| {
        let file = head.filter(|(.., stat)| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        file.map_or(0, |(.., stat)| u64::try_from(stat.st_size).unwrap_or(0))
    };
    let path = first.or(second).map_or(&[][..], |(path, ..)| path.as_slice());
    Change {
        kind,
        path: format!("/{}", String::from_utf8_lossy(path)),
        before: size(first),
        after: size(second),
    }
}

fn same(first: &Side, second: &Side) -> Result<bool, ExploreError> {
    let (Some((path, a, one)), Some((_, b, two))) = (&first.head, &second.head) else { return Ok(false) };
    if first.layers[*a] == second.layers[*b] {
        return Ok(true);
    }
    let kind = FileType::from_raw_mode(one.st_mode);
    let attributes = (one.st_mode, one.st_uid, one.st_gid, one.st_rdev)
        == (two.st_mode, two.st_uid, two.st_gid, two.st_rdev);
    if !attributes {
        return Ok(false);
    }
    let (one_walk, two_walk) = (first.union.walk(*a), second.union.walk(*b));
    match kind {
        FileType::Symlink => Ok(one_walk.read_link(path)? == two_walk.read_link(path)?),
        FileType::RegularFile if one.st_size != two.st_size => Ok(false),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let (one, two) = (one_walk.open(path, flags)?, two_walk.open(path, flags)?);
            let shown = std::path::PathBuf::from(String::from_utf8_lossy(path).into_owned());
            Ok(same_bytes(one.into(), two.into()).map_err(IoError::new("compare", &shown))?)
        }
        _ => Ok(true),
    }
}

fn same_bytes(mut one: File, mut two: File) -> io::Result<bool> {
    let (mut first, mut second) = (vec![0; COPY_BUFFER], vec![0; COPY_BUFFER]);
    loop {
        let count = one.read(&mut first)?;
        if count == 0 {
            return Ok(two.read(&mut second)? == 0);
        }
        match two.read_exact(&mut second[..count]) {
            Ok(()) if first[..count] == second[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
