//! A table for people, JSON for programs.

use std::fmt::Write as _;
use std::fs;

use comfy_table::{CellAlignment, Table, presets};
use lb_common::service::Method;
use serde_json::{Value, json};

use crate::bed::Kind;

pub(crate) struct Report {
    pub(crate) rounds: u32,
    pub(crate) runs: usize,
    /// Verified instructions by program.
    pub(crate) programs: Vec<(&'static str, u32)>,
    pub(crate) costs: Vec<Cost>,
}

/// Nanoseconds a packet over the empty program.
pub(crate) struct Cost {
    method: Method,
    kind: Kind,
    flows: u32,
    median: f64,
    min: f64,
    max: f64,
}

impl Cost {
    pub(crate) fn of(method: Method, kind: Kind, flows: u32, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
        let (median, min, max) = (at(samples.len() / 2), at(0), at(samples.len().saturating_sub(1)));
        Self { method, kind, flows, median, min, max }
    }

    fn what(&self) -> (&'static str, &'static str) {
        let method = match self.method {
            Method::Nat => "nat",
            Method::Tunnel => "tunnel",
            Method::Direct => "direct",
        };
        let kind = match self.kind {
            Kind::Hit => "flow",
            Kind::Reply => "reply",
            Kind::First => "first",
            Kind::New => "new flow",
            Kind::Syn => "SYN",
        };
        (method, kind)
    }
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut flows: Vec<u32> = self.costs.iter().map(|cost| cost.flows).collect();
        flows.dedup();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let heads =
            flows.iter().map(|flows| format!("{flows} {}", if *flows == 1 { "flow" } else { "flows" }));
        table.set_header(["method", "packet"].into_iter().map(str::to_owned).chain(heads));
        for row in self.costs.iter().filter(|cost| Some(&cost.flows) == flows.first()) {
            let same = self.costs.iter().filter(|cost| cost.what() == row.what());
            let cells = same.map(|cost| format!("{:.0} ({:.0} to {:.0})", cost.median, cost.min, cost.max));
            let (method, kind) = row.what();
            table.add_row([method, kind].into_iter().map(str::to_owned).chain(cells));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!(
            "ns a packet over an empty program, median of {} runs of {} packets (least to most), kernel {}\n\n{table}\n\n",
            self.runs,
            self.rounds,
            kernel()
        );
        for (name, verified) in &self.programs {
            let _ = writeln!(text, "program {name}: {verified} instructions verified");
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let costs = self.costs.iter().map(|cost| {
            let (method, packet) = cost.what();
            json!({
                "method": method, "packet": packet, "flows": cost.flows,
                "median_ns": cost.median, "min_ns": cost.min, "max_ns": cost.max,
            })
        });
        let programs = self
            .programs
            .iter()
            .map(|(name, verified)| json!({ "program": name, "verified_instructions": verified }));
        json!({
            "kernel": kernel(), "runs": self.runs, "rounds": self.rounds,
            "programs": programs.collect::<Vec<_>>(), "costs": costs.collect::<Vec<_>>(),
        })
    }
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |release| release.trim().into())
}
