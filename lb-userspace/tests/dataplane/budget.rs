//! What the verifier makes of the programs.

use evenkeel::dataplane::{DataPlane, object};

/// Instructions the verifier may walk through, of the million it would. A change that makes its work explode shows here
/// before it is refused on an older kernel.
const VERIFIED: u32 = 50_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_program_is_accepted_within_its_budget_of_verified_instructions() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, 1024, 1024).unwrap();
    for (program, budget) in [("evenkeel", VERIFIED), ("decap", 500), ("clock", 100), ("tables", 20_000)] {
        let info = plane.program_named(program).unwrap().info().unwrap();
        let verified = info.verified_instruction_count().unwrap();
        assert!(verified <= budget, "{program}: {verified} instructions");
    }
}
