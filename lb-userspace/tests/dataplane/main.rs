//! The real program on real frames, by `BPF_PROG_TEST_RUN`.

use evenkeel::dataplane::{DataPlane, object};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_verifier_accepts_the_program() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, 1024, 1024).unwrap();
    plane.program_named("decap").unwrap();
    plane.program_named("clock").unwrap();
}
