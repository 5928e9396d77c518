//! File → text.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::model::Config;
use super::{Host, Mistake, Mistakes, parse};

/// Larger than any configuration the data plane has room for.
const MAX_BYTES: u64 = 1 << 20;

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it. A file that cannot be read is one mistake, at its first line.
pub fn load(path: &Path, host: &Host) -> Result<Config, Mistakes> {
    parse(&load_text(path)?, &path.display().to_string(), host)
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

fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Opening a FIFO would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
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
