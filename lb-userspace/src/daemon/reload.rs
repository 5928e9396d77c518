//! Applying a configuration: all of it or nothing.

use std::path::Path;
use std::time::{Instant, SystemTime};

use thiserror::Error;

use super::control::{Applied, Apply};
use super::forwarding::ReconcileError;
use super::page::PageError;
use super::snapshot::unix;
use super::{Daemon, timeouts};
use crate::config::model::{Config, Flows};
use crate::config::{self, Host, Mistakes};
use crate::dataplane::Sizes;
use crate::dataplane::attach::AttachError;
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
    #[error(transparent)]
    Metrics(#[from] PageError),
    #[error(transparent)]
    Vrrp(#[from] StartError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

impl ReloadError {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(mistakes) => mistakes.lines(),
            other => vec![other.to_string()],
        }
    }
}

/// A configuration and what it was read from.
pub(super) struct Source {
    file: String,
    text: String,
    config: Config,
}

impl Source {
    pub(super) fn read(path: &Path, host: &Host) -> Result<Self, ReloadError> {
        Self::parse(path.display().to_string(), config::load_text(path)?, host)
    }

    fn parse(file: String, text: String, host: &Host) -> Result<Self, ReloadError> {
        let config = config::parse(&text, &file, host)?;
        Ok(Self { file, text, config })
    }

    pub(super) const fn flows(&self) -> Flows {
        self.config.flows
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

    /// What was applied last is in force, since the file is wrong.
    fn record_fallback(&mut self, path: String, error: &ReloadError) {
        self.path = path;
        self.failed += 1;
        self.errors = error.lines();
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
    /// Applies the first configuration: the file's, or what was applied last if that is wrong or refused.
    ///
    /// # Errors
    /// What is wrong with the file, when nothing was ever applied or that is refused too.
    pub(super) async fn begin(
        &mut self,
        wanted: Result<Source, ReloadError>,
        last: Option<Source>,
    ) -> Result<(), ReloadError> {
        let error = match wanted {
            Ok(source) => {
                let last_is_the_same = last.as_ref().is_none_or(|last| last.text == source.text);
                match self.begin_with(source).await {
                    Ok(()) => return Ok(()),
                    Err(error) if last_is_the_same => return Err(error),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let Some(last) = last else {
            return Err(error);
        };
        for line in error.lines() {
            tracing::error!("{line}");
        }
        let file = last.file.clone();
        tracing::error!(
            "{}: not applied; going on with what was applied last, {file}",
            self.options.config.display()
        );
        self.begin_with(last).await?;
        self.reloads.record_fallback(file, &error);
        Ok(())
    }

    async fn begin_with(&mut self, source: Source) -> Result<(), ReloadError> {
        self.look_for_ways();
        self.configure(source.config).await?;
        self.last_applied.keep(source.text);
        Ok(())
    }

    /// Reads the daemon's own file, or takes what `apply` sent, and applies it. What was in force stays if anything is
    /// wrong with it.
    pub(super) async fn reload(&mut self, apply: Option<Apply>) -> Result<Applied, Applied> {
        let file =
            apply.as_ref().map_or_else(|| self.options.config.display().to_string(), |a| a.file.clone());
        let result = match self.read(apply) {
            Ok(source) => self.replace(source).await,
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

    fn read(&self, apply: Option<Apply>) -> Result<Source, ReloadError> {
        let host = Host::read()?;
        match apply {
            Some(Apply { file, text }) => Source::parse(file, text, &host),
            None => Source::read(&self.options.config, &host),
        }
    }

    async fn replace(&mut self, source: Source) -> Result<(), ReloadError> {
        let size = |flows: &Flows| Sizes::of(flows.ipv4, flows.ipv6);
        if size(&source.config.flows) != size(&self.config.flows) {
            tracing::warn!("flows: another size takes effect with the next start that finds no flow tables");
        }
        let result = self.configure(source.config).await;
        match result {
            Ok(()) => self.last_applied.keep(source.text),
            // Interfaces before the one that was refused have another mode now.
            Err(_) => self.forwarding.follow_interfaces(&self.config.interfaces),
        }
        result
    }

    /// What can be refused comes first; interfaces may be left as the new configuration has them if a later part is
    /// refused.
    async fn configure(&mut self, config: Config) -> Result<(), ReloadError> {
        let address = config.metrics.map(|metrics| metrics.listen);
        let page = self.page.prepare(address).await?;
        if let Err(error) = self.attach_and_start(&config) {
            self.page.take_back(page).await;
            return Err(error);
        }
        self.page.commit(page).await;
        self.checks.configure(&config, Instant::now());
        self.admin.configure(&config);
        self.hooks.configure(&config.hooks);
        self.forwarding.set_timeouts(timeouts(&config.flows));
        self.config = config;
        if let Err(error) = self.path_mtu.follow(&self.config) {
            tracing::warn!("path MTUs to the backends of tunnels are not learned: {error}");
        }
        if let Err(error) = self.forwarding.keep_only(&self.config.interfaces) {
            tracing::warn!("{error}; trying again");
        }
        self.reconcile();
        self.destinations.send_replace(self.forwarding.destinations(&self.config));
        Ok(())
    }

    fn attach_and_start(&mut self, config: &Config) -> Result<(), ReloadError> {
        self.forwarding.try_plan(&self.desired(config), Instant::now())?;
        self.forwarding.attach(&config.interfaces)?;
        self.instances.configure(config)?;
        Ok(())
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
