//! Whom a program is run as.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid, geteuid};

/// The user without rights that every system has.
pub(super) const UNPRIVILEGED: &str = "nobody";

#[derive(Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) home: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("there is no user {name}; make one, or name another")]
    Unknown { name: String },
    #[error("cannot look up the user {name}: {source}")]
    LookUp { name: String, source: Errno },
    #[error("only root can run it as {name}; run Evenkeel as root, or let it run as the user of Evenkeel")]
    NotRoot { name: String },
}

impl User {
    /// May wait for a directory server.
    pub(super) fn look_up(name: &str) -> Result<Self, UserError> {
        let name = name.to_owned();
        let found = match unistd::User::from_name(&name) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(UserError::Unknown { name }),
            Err(source) => return Err(UserError::LookUp { name, source }),
        };
        if found.uid != geteuid() && !geteuid().is_root() {
            return Err(UserError::NotRoot { name });
        }
        Ok(Self { name, uid: found.uid, gid: found.gid, home: found.dir })
    }

    pub(super) const fn is_root(&self) -> bool {
        self.uid.is_root()
    }
}
