//! Backends as a command names them: `web/10.0.0.11:8080`, or `10.0.0.11:8080` in every service that has it; without a
//! port where the configuration gives none.

#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::config::model::{Backend, Config};

/// A backend of a service; port 0 is the one that the client wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub service: String,
    pub backend: SocketAddr,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, written(self.backend))
    }
}

/// As a configuration writes it.
#[must_use]
pub fn written(backend: SocketAddr) -> String {
    if backend.port() == 0 { backend.ip().to_string() } else { backend.to_string() }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("`{0}` is no backend: write ADDRESS:PORT or SERVICE/ADDRESS:PORT, as in the configuration")]
    Syntax(String),
    #[error("no backend `{name}`; there are: {}", .known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("no backend `{0}`: the configuration has none")]
    None(String),
}

/// The backends that `name` names, at least one.
///
/// # Errors
/// It names none of the configuration; the error lists those there are.
pub fn resolve(name: &str, config: &Config) -> Result<Vec<Name>, NameError> {
    let (service, backend) = match name.rsplit_once('/') {
        Some((service, backend)) => (Some(service), backend),
        None => (None, name),
    };
    let backend = parse(backend).ok_or_else(|| NameError::Syntax(name.to_owned()))?;
    let known = || {
        config.services.iter().flat_map(|service| {
            let named = |backend: &Backend| Name { service: service.name.clone(), backend: backend.socket() };
            service.backends.iter().map(named)
        })
    };
    let meant = known()
        .filter(|known| known.backend == backend && service.is_none_or(|service| known.service == service));
    let meant: Vec<Name> = meant.collect();
    if !meant.is_empty() {
        return Ok(meant);
    }
    let known: Vec<String> = known().map(|known| known.to_string()).collect();
    let name = name.to_owned();
    Err(if known.is_empty() { NameError::None(name) } else { NameError::Unknown { name, known } })
}

/// An address with its port, or without.
fn parse(text: &str) -> Option<SocketAddr> {
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    text.parse().ok().or_else(|| bare().map(|address| SocketAddr::new(address, 0)))
}
