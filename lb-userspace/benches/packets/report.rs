//! A table for people, JSON for programs.

use std::fmt::Write as _;
use std::fs;

use comfy_table::{CellAlignment, Table, presets};
use lb_common::addr::{Addr, V4};
use lb_common::flow::Slot;
use serde_json::{Value, json};

use crate::case::{Kind, Outside, Path};

pub(crate) struct Report {
    pub(crate) runs: usize,
    /// Verified instructions by program.
    pub(crate) programs: Vec<(&'static str, u32)>,
    pub(crate) costs: Vec<Cost>,
    /// Nanoseconds that one call of a helper takes on this machine, in order.
    pub(crate) calls: Vec<f64>,
}

/// Nanoseconds a packet over the empty program.
pub(crate) struct Cost {
    pub(crate) path: Path,
    pub(crate) kind: Kind,
    pub(crate) flows: u32,
    /// In order, at least one.
    pub(crate) samples: Vec<f64>,
}

impl Cost {
    /// Median, least, most.
    fn summary(&self) -> [f64; 3] {
        summary(&self.samples)
    }

    fn same_row(&self, other: &Self) -> bool {
        self.path == other.path && self.kind == other.kind
    }
}

fn summary(samples: &[f64]) -> [f64; 3] {
    let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
    [at(samples.len() / 2), at(0), at(samples.len().saturating_sub(1))]
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut flows: Vec<u32> = self.costs.iter().map(|cost| cost.flows).collect();
        flows.dedup();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let heads =
            flows.iter().map(|flows| format!("{flows} {}", if *flows == 1 { "flow" } else { "flows" }));
        table.set_header(["method", "family", "packet"].into_iter().map(str::to_owned).chain(heads));
        for row in self.costs.iter().filter(|cost| Some(&cost.flows) == flows.first()) {
            let same = self.costs.iter().filter(|cost| cost.same_row(row));
            let cells = same.map(|cost| {
                let [median, least, most] = cost.summary();
                format!("{median:.0} ({least:.0} to {most:.0})")
            });
            let names = [row.path.method(), row.path.family(), row.kind.as_str()];
            table.add_row(names.into_iter().map(str::to_owned).chain(cells));
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!(
            "ns a packet over an empty program, median of {} runs (least to most), kernel {}\n\n{table}\n\n",
            self.runs,
            kernel()
        );
        let [median, least, most] = summary(&self.calls);
        let _ = writeln!(text, "one call of a helper: {median:.0} ns ({least:.0} to {most:.0})");
        for (name, verified) in &self.programs {
            let _ = writeln!(text, "program {name}: {verified} instructions verified");
        }
        for path in memory_paths() {
            let (method, family) = (path.method(), path.family());
            let _ = writeln!(text, "{method} {family}: {} bytes of flow table a flow", bytes_a_flow(path));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let costs = self.costs.iter().map(|cost| {
            let [median, least, most] = cost.summary();
            json!({
                "method": cost.path.method(), "family": cost.path.family(), "packet": cost.kind.as_str(),
                "flows": cost.flows, "median_ns": median, "min_ns": least, "max_ns": most,
            })
        });
        let programs = self
            .programs
            .iter()
            .map(|(name, verified)| json!({ "program": name, "verified_instructions": verified }));
        let memory = memory_paths().map(|path| {
            json!({
                "method": path.method(), "family": path.family(), "bytes_a_flow": bytes_a_flow(path),
            })
        });
        json!({
            "kernel": kernel(), "runs": self.runs, "call_ns": summary(&self.calls)[0], "programs": programs.collect::<Vec<_>>(),
            "memory": memory.collect::<Vec<_>>(), "costs": costs.collect::<Vec<_>>(),
        })
    }
}

fn memory_paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| path.outside == Outside::Same)
}

/// In a table that is as full as it is made for, four fifths: see [`evenkeel::dataplane::Sizes`].
fn bytes_a_flow(path: Path) -> usize {
    let slot = if path.ipv6 { size_of::<Slot<Addr>>() } else { size_of::<Slot<V4>>() };
    path.entries() as usize * slot * 5 / 4
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |release| release.trim().into())
}
