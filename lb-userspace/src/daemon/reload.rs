//! Applying a configuration: all of it or nothing.

use std::time::{Instant, SystemTime};

use thiserror::Error;
use tokio::net::TcpListener;

use super::Daemon;
use super::control::{self, Applied, Apply};
use super::forwarding::ReconcileError;
use super::snapshot::unix;
use crate::config::model::Config;
use crate::config::{self, Host, Mistakes};
use crate::dataplane::attach::AttachError;
use crate::dataplane::maps::MapAccessError;
use crate::status;
use crate::vrrp::StartError;

#[derive(Debug, Error)]
pub enum ReloadError {
    #[error("{0}")]
    Mistakes(#[from] Mistakes),
    #[error("cannot read this host's name and interfaces: {0}")]
    Host(#[from] std::io::Error),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(
        "cannot serve metrics on {address}: {source}; `metrics.listen` needs a free address of this node"
    )]
    Metrics {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Vrrp(#[from] StartError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error(transparent)]
    Map(#[from] MapAccessError),
}

impl ReloadError {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(mistakes) => mistakes.lines(),
            other => vec![other.to_string()],
        }
    }
}

/// What became of reloads.
#[derive(Debug)]
pub(super) struct Reloads {
    path: String,
    last_path: String,
    applied_at: SystemTime,
    last_at: SystemTime,
    succeeded: u64,
    failed: u64,
    errors: Vec<String>,
}

impl Reloads {
    pub(super) fn new(path: String, now: SystemTime) -> Self {
        Self {
            last_path: path.clone(),
            path,
            applied_at: now,
            last_at: now,
            succeeded: 0,
            failed: 0,
            errors: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> status::Configuration {
        status::Configuration {
            path: self.path.clone(),
            applied_at: unix(self.applied_at),
            reloads_succeeded: self.succeeded,
            reloads_failed: self.failed,
            last_reload_at: unix(self.last_at),
            last_reload_path: self.last_path.clone(),
            last_reload_errors: self.errors.clone(),
        }
    }

    fn record(&mut self, path: String, result: &Result<(), ReloadError>, now: SystemTime) {
        self.last_at = now;
        self.last_path.clone_from(&path);
        match result {
            Ok(()) => {
                self.succeeded += 1;
                self.applied_at = now;
                self.path = path;
                self.errors.clear();
            }
            Err(error) => {
                self.failed += 1;
                self.errors = error.lines();
            }
        }
    }
}

impl Daemon {
    /// Reads the daemon's own file, or takes what `apply` sent, and applies it. What was in force stays if anything is
    /// wrong with it.
    pub(super) async fn reload(&mut self, apply: Option<Apply>) -> Result<Applied, Applied> {
        let file =
            apply.as_ref().map_or_else(|| self.options.config.display().to_string(), |a| a.file.clone());
        let result = match self.read(apply.as_ref()) {
            Ok(config) => self.configure(config).await,
            Err(error) => Err(error),
        };
        self.reloads.record(file.clone(), &result, SystemTime::now());
        match result {
            Ok(()) => {
                let line = format!("{file}: applied — {}", summary(&self.config));
                tracing::info!("{line}");
                Ok(Applied { lines: vec![line] })
            }
            Err(error) => {
                let mut lines = error.lines();
                for line in &lines {
                    tracing::error!("{line}");
                }
                tracing::error!("{file}: not applied; what was in force stays");
                lines.push(format!("{file}: not applied; what was in force stays"));
                Err(Applied { lines })
            }
        }
    }

    fn read(&self, apply: Option<&Apply>) -> Result<Config, ReloadError> {
        let host = Host::read()?;
        Ok(match apply {
            Some(Apply { file, text }) => config::parse(text, file, &host)?,
            None => config::load(&self.options.config, &host)?,
        })
    }

    /// What can be refused comes first and is taken back if a later part is refused.
    pub(super) async fn configure(&mut self, config: Config) -> Result<(), ReloadError> {
        let metrics = self.bind_metrics(&config).await?;
        if let Err(error) = self.attach_and_start(&config).await {
            let interfaces = self.config.interfaces.clone();
            if let Err(error) = self.forwarding.keep_only(&interfaces) {
                tracing::warn!("{error}");
            }
            return Err(error);
        }
        self.forwarding.keep_only(&config.interfaces)?;
        self.checks.configure(&config, Instant::now());
        if let Some(listener) = metrics {
            self.metrics = Some(control::serve_metrics(listener, self.commands.clone()));
        }
        self.config = config;
        self.reconcile();
        self.destinations.send_replace(self.forwarding.destinations(&self.config));
        Ok(())
    }

    async fn attach_and_start(&mut self, config: &Config) -> Result<(), ReloadError> {
        self.forwarding.try_plan(&self.desired(config))?;
        self.forwarding.attach(&config.interfaces)?;
        self.instances.configure(config).await?;
        Ok(())
    }

    /// The listener of the new metrics address; the old page goes only when there is a new one or none is wanted.
    async fn bind_metrics(&mut self, config: &Config) -> Result<Option<TcpListener>, ReloadError> {
        let wanted = config.metrics.map(|metrics| metrics.listen);
        if wanted == self.config.metrics.map(|metrics| metrics.listen)
            && self.metrics.is_some() == wanted.is_some()
        {
            return Ok(None);
        }
        let listener = match wanted {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| ReloadError::Metrics { address, source })?)
            }
            None => None,
        };
        if let Some(page) = self.metrics.take() {
            page.abort();
        }
        Ok(listener)
    }
}

/// What a configuration holds, for a person.
pub(super) fn summary(config: &Config) -> String {
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}",
        count(config.services.len(), "service"),
        count(backends, "backend"),
        count(config.vrrp.len(), "VRRP instance")
    )
}
