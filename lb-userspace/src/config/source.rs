//! File → text.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::model::Config;
use super::{Host, Mistake, Mistakes};

/// Larger than any configuration the data plane has room for.
const MAX_BYTES: u64 = 1 << 20;
/// Room for 255 keys of 64 bytes and a page of comments.
const MAX_SECRET_BYTES: u64 = 1 << 16;

/// How the parser gets the text of a file of keys.
pub(super) type ReadSecret<'a> = &'a dyn Fn(&Path) -> Result<String, SecretError>;

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it. A file that cannot be read is one mistake, at its first line.
pub fn load(path: &Path, host: &Host) -> Result<Config, Mistakes> {
    parse(&load_text(path)?, &path.display().to_string(), host)
}

/// Checks the text of a configuration, and reads the files of keys that it names; `file` names it in messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str, host: &Host) -> Result<Config, Mistakes> {
    super::parse::parse(text, file, host, &read_secret)
}

/// Reads a configuration file without checking what it says.
///
/// # Errors
/// It cannot be read, is too large or is not text: one mistake.
pub fn load_text(path: &Path) -> Result<String, Mistakes> {
    let file = path.display().to_string();
    let bytes = read(path).map_err(|error| Mistakes::of_file(&file, error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let (line, column) = end_of(&String::from_utf8_lossy(good));
        let message = "this is not UTF-8 text; save the configuration as UTF-8".to_owned();
        Mistakes::new(&file, vec![Mistake { line, column, path: String::new(), message }])
    })
}

/// Line and column of what follows `text`.
fn end_of(text: &str) -> (u64, u64) {
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() as u64 + 1, last_line.chars().count() as u64 + 1)
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("there is no such file; name the one you have, or begin with an example from deploy/examples")]
    Missing,
    #[error("this user may not read the file; run as root, or let the file belong to the user it is read by")]
    Forbidden,
    #[error("the file cannot be read: {0}; name a file that can, or mend its file system")]
    Io(#[source] io::Error),
    #[error("this is a directory; name the configuration file in it")]
    Directory,
    #[error("this is not a regular file; name a file with the configuration in it")]
    NotRegular,
    #[error("the file is larger than {} bytes, the most a configuration may have", MAX_BYTES)]
    TooLarge,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Io(error),
        }
    }
}

/// Why a file of keys is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("there is no such file; write one with a line `ID KEY`, and `chmod 600` it")]
    Missing,
    #[error("this user may not read the file; run as root, or let the file belong to the user it is read by")]
    Forbidden,
    #[error(
        "others than its owner may read or write the file (mode {0:03o}); `chmod 600` it, and write new keys"
    )]
    Exposed(u32),
    #[error("this is not a regular file; name a file with keys in it")]
    NotRegular,
    #[error("the file is larger than {} bytes; leave nothing but keys in it", MAX_SECRET_BYTES)]
    TooLarge,
    #[error("the file cannot be read: {0}; name a file that can, or mend its file system")]
    Io(#[source] io::Error),
}

impl From<io::Error> for SecretError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Io(error),
        }
    }
}

/// What is not UTF-8 is replaced, and is no key.
pub(super) fn read_secret(path: &Path) -> Result<String, SecretError> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SecretError::NotRegular);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(SecretError::Exposed(metadata.mode() & 0o777));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opening a FIFO would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(ReadError::Directory);
    }
    if !kind.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}
