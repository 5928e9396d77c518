//! The clients of the demo: HTTP by `nat`, HTTP by `tunnel`, MySQL by `nat`, all at once.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::testbed::clients::{Connections, HttpClient, Load, MySqlClient, Report};
use crate::testbed::data_centre::DataCentre;

/// Runs until stopped.
pub(super) struct Traffic {
    web: Load,
    app: Load,
    db: Load,
}

/// What the clients of each service saw.
pub(super) struct Seen {
    pub(super) web: Report,
    pub(super) app: Report,
    pub(super) db: Report,
}

impl Traffic {
    /// Each request comes on a connection of its own, so that each is balanced anew.
    pub(super) fn start(data_centre: &DataCentre) -> Self {
        let client = &data_centre.client;
        let http = |address, clients| {
            let make = || HttpClient::new(address, "/", Connections::PerRequest);
            Load::start(client, clients, Duration::from_millis(5), make)
        };
        let database = || MySqlClient::new(DataCentre::database_service());
        Self {
            web: http(DataCentre::web_service(), 4),
            app: http(DataCentre::app_service(), 2),
            db: Load::start(client, 1, Duration::from_millis(20), database),
        }
    }

    /// Goes on for this long, then tells.
    pub(super) fn stop_after(self, time: Duration) -> Result<Seen> {
        thread::sleep(time);
        Ok(Seen { web: self.web.stop()?, app: self.app.stop()?, db: self.db.stop()? })
    }

    /// A while in which nothing is wrong.
    pub(super) fn calm(data_centre: &DataCentre, time: Duration) -> Result<Seen> {
        let seen = Self::start(data_centre).stop_after(time)?;
        seen.nothing_failed()?;
        Ok(seen)
    }
}

impl Seen {
    pub(super) fn services(&self) -> [(&'static str, &Report); 3] {
        [("web (nat)", &self.web), ("app (tunnel)", &self.app), ("db (nat)", &self.db)]
    }

    /// Each service has answered, and always.
    pub(super) fn nothing_failed(&self) -> Result<()> {
        for (service, report) in self.services() {
            ensure!(!report.answers.is_empty(), "{service}: no answer; {}", errors(report));
            ensure!(
                report.failed == 0,
                "{service}: {} of {} failed; {}",
                report.failed,
                report.sent,
                errors(report)
            );
        }
        Ok(())
    }

    /// Each of these web servers has a share that is no accident.
    pub(super) fn web_is_spread_over(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let share = self.web.share(name);
            ensure!(
                share > 0.5 / names.len() as f64,
                "{name} gave {:.0} % of the answers only",
                share * 100.0
            );
        }
        let all: f64 = names.iter().map(|name| self.web.share(name)).sum();
        let others = 1.0 - all;
        ensure!(
            others < 1e-9,
            "others than {} gave {:.0} % of the answers",
            names.join(", "),
            others * 100.0
        );
        Ok(())
    }

    /// The clients of this service were answered during the step.
    pub(super) fn answered(&self) -> Result<()> {
        for (service, report) in self.services() {
            report
                .answers
                .values()
                .next()
                .with_context(|| format!("{service}: no answer; {}", errors(report)))?;
        }
        Ok(())
    }
}

fn errors(report: &Report) -> String {
    let errors: Vec<String> =
        report.errors.iter().take(3).map(|(what, count)| format!("{count} × {what}")).collect();
    format!("errors: {}", if errors.is_empty() { "none".to_owned() } else { errors.join("; ") })
}
