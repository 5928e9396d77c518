//! Maglev tables as user space sees them.

use std::collections::BTreeSet;

use evenkeel::dataplane::{DataPlane, Sizes, object};
use lb_common::limits::{TABLE_ENTRIES, TABLES, TABLES_A_RUN};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn exactly_the_tables_that_were_written_and_not_removed_are_there() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 1024).unwrap();
    assert_eq!(plane.table_numbers().unwrap(), BTreeSet::new());
    let written = [0, 1, 3, TABLES_A_RUN - 1, TABLES_A_RUN, TABLES - 1];
    for number in written {
        plane.tables.write(number, &vec![number; TABLE_ENTRIES as usize]).unwrap();
    }
    assert_eq!(plane.table_numbers().unwrap(), BTreeSet::from(written));
    plane.tables.remove(3).unwrap();
    plane.tables.remove(2).unwrap();
    assert_eq!(
        plane.table_numbers().unwrap(),
        BTreeSet::from([0, 1, TABLES_A_RUN - 1, TABLES_A_RUN, TABLES - 1])
    );
}
