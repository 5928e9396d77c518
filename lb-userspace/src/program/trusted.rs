//! Whether nobody but root can change what a path leads to: else who may write there is root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// As the kernel's `MAXSYMLINKS`.
const MAX_LINKS: usize = 40;
/// Group and others. The group's bit stands for the mask of an access list too (acl(5)).
const WRITABLE: u32 = 0o022;

#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("{} cannot be looked at: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} does not belong to root; `chown root` it", path.display())]
    Owner { path: PathBuf },
    #[error("{} can be written by others than root; `chmod go-w` it", path.display())]
    Writable { path: PathBuf },
    #[error("{} is no absolute path, or has too many symbolic links", path.display())]
    Path { path: PathBuf },
}

/// Looks at every folder and symbolic link on the way to the file, and at the file.
pub(super) fn check(file: &Path) -> Result<(), Untrusted> {
    let endless = || Untrusted::Path { path: file.to_owned() };
    let mut here = PathBuf::from("/");
    look(&here)?;
    let mut ahead = steps(file).ok_or_else(endless)?;
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            here.pop();
            continue;
        }
        here.push(&step);
        if !look(&here)?.is_symlink() {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(endless());
        }
        let target = fs::read_link(&here).map_err(|source| unreadable(&here, source))?;
        here.pop();
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        let mut rest = steps(&Path::new("/").join(target)).ok_or_else(endless)?;
        rest.append(&mut ahead);
        ahead = rest;
    }
    Ok(())
}

/// The names of an absolute path.
fn steps(path: &Path) -> Option<VecDeque<OsString>> {
    let mut components = path.components();
    if components.next()? != Component::RootDir {
        return None;
    }
    Some(components.map(|component| component.as_os_str().to_owned()).collect())
}

fn look(path: &Path) -> Result<Metadata, Untrusted> {
    let metadata = fs::symlink_metadata(path).map_err(|source| unreadable(path, source))?;
    let path = path.to_owned();
    if metadata.uid() != 0 {
        return Err(Untrusted::Owner { path });
    }
    // A symbolic link's own mode says nothing (symlink(7)).
    if !metadata.is_symlink() && metadata.mode() & WRITABLE != 0 {
        return Err(Untrusted::Writable { path });
    }
    Ok(metadata)
}

fn unreadable(path: &Path, source: io::Error) -> Untrusted {
    Untrusted::Unreadable { path: path.to_owned(), source }
}
