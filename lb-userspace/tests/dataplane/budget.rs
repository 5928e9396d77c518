//! What the verifier makes of the programs.

use ::object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use evenkeel::dataplane::{DataPlane, Sizes, object};

/// Instructions the verifier may walk through, of the million it would. A change that makes its work explode shows here
/// before it is refused on an older kernel.
const VERIFIED: u32 = 220_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_program_is_accepted_within_its_budget_of_verified_instructions() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 1024).unwrap();
    for (program, budget) in [("evenkeel", VERIFIED), ("clock", 100), ("tables", 20_000)] {
        let info = plane.program_named(program).unwrap().info().unwrap();
        let verified = info.verified_instruction_count().unwrap();
        assert!(verified <= budget, "{program}: {verified} instructions");
    }
}

/// Bytes of stack a program may use, of the 512 there are.
const STACK: u16 = 320;

#[test]
fn every_program_keeps_room_on_its_stack() {
    let balancer = ["evenkeel", "clock", "tables"].map(|program| (object::EVENKEEL, program));
    for (object, program) in balancer.into_iter().chain([(object::DECAP, "decap")]) {
        let used = stack(object, program);
        assert!(used <= STACK, "{program}: {used} bytes of stack");
    }
    // What is measured is not nothing.
    assert!(stack(object::EVENKEEL, "evenkeel") > 64);
}

/// The lowest place that the program names by the frame pointer, in a load, in a store or as an address.
fn stack(object: &[u8], program: &str) -> u16 {
    const FRAME_POINTER: u8 = 10;
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let file = ::object::File::parse(object).unwrap();
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(program)).unwrap();
    let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
    let start = symbol.address() as usize;
    let code = &section.data().unwrap()[start..start + symbol.size() as usize];
    let mut lowest = 0;
    let mut copied = None;
    for word in code.chunks_exact(8) {
        let (operation, destination, source) = (word[0], word[1] & 15, word[1] >> 4);
        let offset = i16::from_le_bytes([word[2], word[3]]);
        let base = match operation & 7 {
            1 => source,
            2 | 3 => destination,
            _ => 0,
        };
        if base == FRAME_POINTER {
            lowest = lowest.min(offset);
        }
        if operation == ADD && copied == Some(destination) {
            lowest = lowest.min(i32::from_le_bytes([word[4], word[5], word[6], word[7]]) as i16);
        }
        copied = (operation == MOVE && source == FRAME_POINTER).then_some(destination);
    }
    lowest.unsigned_abs()
}
