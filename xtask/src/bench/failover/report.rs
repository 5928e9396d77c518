//! A table for people, JSON for programs.

#![deny(clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::pair::{Event, Product, Seen};
use super::stats::Summary;

/// From here on the prober's own stalls show in the gaps.
const BUSY: Duration = Duration::from_millis(5);

const HEADS: [&str; 9] =
    ["advert", "master", "runs", "keepalived", "lost", "Evenkeel", "lost", "address left", "stall"];
const WIDTHS: [usize; 9] = [7, 7, 4, 19, 19, 19, 19, 12, 5];

/// What was seen in each run.
pub(super) struct Report {
    kernel: String,
    keepalived: String,
    rows: Vec<Row>,
}

struct Row {
    advertise: Duration,
    product: Product,
    seen: Seen,
}

impl Report {
    pub(super) const fn new(kernel: String, keepalived: String) -> Self {
        Self { kernel, keepalived, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, advertise: Duration, product: Product, seen: Seen) {
        self.rows.push(Row { advertise, product, seen });
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "The gap that a client sees when the master fails, in ms, and probes lost, one a ms: median (least-most).\n\
             Kernel {}, {}.\n\n",
            self.kernel, self.keepalived
        );
        line(&mut text, HEADS);
        line(&mut text, HEADS.map(|_| "---"));
        for (advertise, event) in self.cases() {
            let [theirs, ours] = Product::BOTH.map(|product| self.cell(advertise, event, product));
            let left = format!("{}, {}", theirs.left, ours.left);
            line(
                &mut text,
                [
                    &format!("{} ms", advertise.as_millis()),
                    event.name(),
                    &theirs.runs.to_string(),
                    &theirs.gap,
                    &theirs.lost,
                    &ours.gap,
                    &ours.lost,
                    if event == Event::Killed { &left } else { "" },
                    &format!("{:.0}", milliseconds(theirs.stall.max(ours.stall))),
                ],
            );
        }
        let _ = write!(text, "\n{}", self.how_steady());
        text
    }

    pub(super) fn json(&self) -> Value {
        let mut results = Vec::new();
        for (advertise, event) in self.cases() {
            for product in Product::BOTH {
                let seen = || self.of(advertise, event, product);
                let runs = seen().map(|seen| {
                    json!({
                        "gap_ms": milliseconds(seen.outage.gap),
                        "lost": seen.outage.lost,
                        "prober_stall_ms": milliseconds(seen.outage.stall),
                        "old_master_holds_address": seen.address_left,
                    })
                });
                results.push(json!({
                    "advertise_ms": milliseconds(advertise),
                    "event": event,
                    "product": product,
                    "gap_ms": gap(seen()),
                    "lost": lost(seen()),
                    "runs": runs.collect::<Vec<_>>(),
                }));
            }
        }
        json!({
            "kernel": self.kernel,
            "keepalived": self.keepalived,
            "prober_realtime": self.is_realtime(),
            "prober_longest_stall_ms": milliseconds(self.longest_stall()),
            "results": results,
        })
    }

    /// In the order in which they were first added.
    fn cases(&self) -> Vec<(Duration, Event)> {
        let mut cases = Vec::new();
        for row in &self.rows {
            let case = (row.advertise, row.seen.event);
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    fn of(&self, advertise: Duration, event: Event, product: Product) -> impl Iterator<Item = &Seen> {
        let rows = self.rows.iter().filter(move |row| row.advertise == advertise && row.product == product);
        rows.map(|row| &row.seen).filter(move |seen| seen.event == event)
    }

    fn cell(&self, advertise: Duration, event: Event, product: Product) -> Cell {
        let seen = || self.of(advertise, event, product);
        let left = seen().filter(|seen| seen.address_left).count();
        let runs = seen().count();
        Cell {
            runs,
            stall: seen().map(|seen| seen.outage.stall).max().unwrap_or_default(),
            gap: shown(gap(seen())),
            lost: shown(lost(seen())),
            left: match left {
                0 => "no".to_owned(),
                _ if left == runs => "yes".to_owned(),
                _ => format!("in {left} of {runs}"),
            },
        }
    }

    fn how_steady(&self) -> String {
        let stall = self.longest_stall();
        let mut text = format!(
            "stall: longest time between two probes in any of the runs; a gap up to it may be the prober's own. {}\n",
            if stall < BUSY { "The machine was quiet." } else { "THE MACHINE WAS BUSY." }
        );
        if !self.is_realtime() {
            text.push_str("The prober ran without real-time priority (CAP_SYS_NICE).\n");
        }
        text.push_str(
            "killed: SIGKILL for every process of keepalived, and for Evenkeel's daemon; its guard is there for this.\n\
             address left: whether the dead node (keepalived's, Evenkeel's) still holds the address after the takeover.\n\
             One that does goes on answering: hence no probe lost, and two nodes with one address from then on.\n",
        );
        text
    }

    fn longest_stall(&self) -> Duration {
        self.rows.iter().map(|row| row.seen.outage.stall).max().unwrap_or_default()
    }

    fn is_realtime(&self) -> bool {
        self.rows.iter().all(|row| row.seen.realtime)
    }
}

struct Cell {
    runs: usize,
    stall: Duration,
    gap: String,
    lost: String,
    left: String,
}

/// A line of a Markdown table that is aligned for reading as it is.
fn line(text: &mut String, cells: [&str; 9]) {
    for (cell, width) in cells.into_iter().zip(WIDTHS) {
        let _ = write!(text, "| {cell:<width$} ");
    }
    text.push_str("|\n");
}

fn gap<'a>(seen: impl Iterator<Item = &'a Seen>) -> Option<Summary> {
    Summary::of(seen.map(|seen| milliseconds(seen.outage.gap)))
}

fn lost<'a>(seen: impl Iterator<Item = &'a Seen>) -> Option<Summary> {
    Summary::of(seen.map(|seen| seen.outage.lost as f64))
}

fn shown(summary: Option<Summary>) -> String {
    summary.map_or_else(String::new, |Summary { median, least, most }| {
        format!("{median:.0} ({least:.0}-{most:.0})")
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::stats::Outage;
    use super::*;

    fn report(stall: Duration) -> Report {
        let mut report = Report::new("6.18".to_owned(), "keepalived v2.2.7".to_owned());
        for gap in [30, 40, 36] {
            for product in Product::BOTH {
                let theirs = product == Product::Keepalived;
                let gap = Duration::from_millis(if theirs { gap } else { 1 });
                let lost = if theirs { 7 } else { 0 };
                let seen = Seen {
                    event: Event::Killed,
                    outage: Outage { gap, lost, stall },
                    address_left: theirs,
                    realtime: true,
                };
                report.add(Duration::from_millis(10), product, seen);
            }
        }
        report
    }

    #[test]
    fn the_table_has_a_line_for_each_case_with_both_products() {
        let table = report(Duration::from_millis(1)).table();
        let line = table.lines().find(|line| line.contains("10 ms")).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ours = ["1 (1-1)", "0 (0-0)", "yes, no", "1"];
        assert_eq!(cells[1..6], ["10 ms", "killed", "3", "36 (30-40)", "7 (7-7)"]);
        assert_eq!(cells[6..10], ours);
        assert!(!table.contains("BUSY"), "{table}");
    }

    #[test]
    fn a_busy_machine_is_said() {
        assert!(report(Duration::from_millis(20)).table().contains("BUSY"));
    }

    #[test]
    fn the_json_has_each_run_and_its_summary() {
        let json = report(Duration::from_millis(1)).json();
        assert_eq!(json["results"][0]["product"], "keepalived");
        assert_eq!(json["results"][0]["gap_ms"]["median"], 36.0);
        assert_eq!(json["results"][0]["runs"][1]["gap_ms"], 40.0);
        assert_eq!(json["results"][1]["lost"]["most"], 0.0);
        assert_eq!(json["results"][1]["runs"][0]["old_master_holds_address"], false);
    }
}
