//! docs/reasons.md names every reason that the data plane counts, with its verdict, and no other.

use std::collections::BTreeMap;
use std::path::Path;

use lb_common::reason::Reason;

#[test]
fn every_reason_is_documented_with_its_verdict_and_none_besides() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    let text = std::fs::read_to_string(path).unwrap();
    // | `name` | verdict | meaning | what to do |
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        assert!(cells[2..4].iter().all(|cell| !cell.is_empty()), "{line}");
        (cells[0].trim_end_matches('`'), cells[1])
    });
    let documented: BTreeMap<_, _> = rows.collect();
    let counted: BTreeMap<_, _> =
        Reason::ALL.iter().map(|reason| (reason.as_str(), reason.verdict().as_str())).collect();
    assert_eq!(documented, counted);
}
