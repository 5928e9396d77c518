//! What a step showed, as a table.

use super::traffic::Seen;
use crate::shell::tell;

/// What the clients saw during a step, and what became of it.
pub(super) struct Shown {
    pub(super) seen: Seen,
    pub(super) outcome: String,
}

pub(super) fn print(shown: &Shown) {
    tell(format_args!(
        "    {:<14}{:>8}{:>8}{:>13}   answered by",
        "service", "sent", "failed", "longest gap"
    ));
    for (service, report) in shown.seen.services() {
        let answers: Vec<String> =
            report.answers.keys().map(|who| format!("{who} {:.0} %", report.share(who) * 100.0)).collect();
        tell(format_args!(
            "    {service:<14}{:>8}{:>8}{:>11} ms   {}",
            report.sent,
            report.failed,
            report.gap.as_millis(),
            answers.join(", ")
        ));
    }
    tell(format_args!("    {}", shown.outcome));
}
