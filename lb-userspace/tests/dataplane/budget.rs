//! What the verifier makes of the programs.

use ::object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex};
use evenkeel::dataplane::{DataPlane, Sizes, object};

/// Instructions the verifier may walk through, of the million it would. A change that makes its work explode shows here
/// before it is refused on an older kernel.
const VERIFIED: [(&str, u32); 5] = [
    ("evenkeel", 30_000),
    ("evenkeel_ipv6", 30_000),
    ("evenkeel_rest", 240_000),
    ("clock", 100),
    ("tables", 20_000),
];

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_program_is_accepted_within_its_budget_of_verified_instructions() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 1024).unwrap();
    for (program, budget) in VERIFIED {
        let info = plane.program_named(program).unwrap().info().unwrap();
        // Linux before 5.16 does not tell; that it accepts the program is what there is to know there.
        let verified = info.verified_instruction_count().unwrap_or_default();
        assert!(verified <= budget, "{program}: {verified} instructions");
    }
}

/// Bytes of stack a program may use, with all functions that are running at once, of the 512 there are.
const STACK: u32 = 480;

#[test]
fn every_program_keeps_room_on_its_stack() {
    let balancer = VERIFIED.map(|(program, _)| (object::EVENKEEL, program));
    for (object, program) in
        balancer.into_iter().chain([(object::DECAP, "decap"), (object::REFUSE, "evenkeel_refuse")])
    {
        let used = stack(object, program);
        assert!(used <= STACK, "{program}: {used} bytes of stack");
    }
    // What is measured is not nothing.
    assert!(stack(object::EVENKEEL, "evenkeel_rest") > 256);
}

fn stack(object: &[u8], program: &str) -> u32 {
    let file = ::object::File::parse(object).unwrap();
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(program)).unwrap();
    chain(&file, symbol.section_index().unwrap(), symbol.address())
}

/// The function at this place, and the deepest of what it calls. Frames are counted as the verifier does, by 32 bytes
/// (`check_max_stack_depth` in kernel/bpf/verifier.c).
fn chain(file: &::object::File<'_>, section: SectionIndex, address: u64) -> u32 {
    let here = |symbol: &::object::Symbol<'_, '_>| {
        symbol.section_index() == Some(section) && symbol.address() == address && symbol.size() > 0
    };
    let symbol = file.symbols().find(here).unwrap();
    let code = file.section_by_index(section).unwrap();
    let function = address as usize..(address + symbol.size()) as usize;
    let own = frame(&code.data().unwrap()[function.clone()]).max(1).next_multiple_of(32);
    let callees = function.step_by(8).filter_map(|at| callee(file, &code, at));
    own + callees.map(|(section, address)| chain(file, section, address)).max().unwrap_or(0)
}

/// Where a call of a function of the object leads to.
fn callee(
    file: &::object::File<'_>,
    code: &::object::Section<'_, '_>,
    at: usize,
) -> Option<(SectionIndex, u64)> {
    const CALL: u8 = 0x85;
    const OF_THE_OBJECT: u8 = 1;
    let word = &code.data().unwrap()[at..at + 8];
    if word[0] != CALL || word[1] >> 4 != OF_THE_OBJECT {
        return None;
    }
    let distance = i64::from(i32::from_le_bytes([word[4], word[5], word[6], word[7]])) + 1;
    let relocation = code.relocations().find(|(place, _)| *place == at as u64);
    let Some((_, relocation)) = relocation else {
        return Some((code.index(), (at as i64 + distance * 8) as u64));
    };
    let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("a call of no symbol") };
    let symbol = file.symbol_by_index(symbol).unwrap();
    // A symbol of a section stands for its start.
    let address = if symbol.size() > 0 { symbol.address() } else { (distance * 8) as u64 };
    Some((symbol.section_index().unwrap(), address))
}

/// The lowest place that a function names by the frame pointer, in a load, in a store or as an address.
fn frame(code: &[u8]) -> u32 {
    const FRAME_POINTER: u8 = 10;
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;
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
    u32::from(lowest.unsigned_abs())
}
