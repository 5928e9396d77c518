//! What a packet costs in the real program, by `BPF_PROG_TEST_RUN`, over an empty program in the same wrapper: see
//! BENCHMARKS.md. `cargo xtask bench packets` runs this as root.

mod bed;
mod report;

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use evenkeel::dataplane::{DataPlane, Decap, object};
use lb_common::decap;
use lb_common::service::Method;

use bed::{Bed, Kind};
use report::{Cost, Report};

/// Established flows beside each other: within the first, second and third cache, and beyond.
const FLOWS: [u32; 4] = [1, 1 << 10, 1 << 16, 1 << 20];
/// Packets in one run; at most flows, each is met once.
const ROUNDS: u32 = 1 << 20;
const RUNS: usize = 7;

const CASES: [(Method, Kind); 13] = [
    (Method::Tunnel, Kind::Hit),
    (Method::Direct, Kind::Hit),
    (Method::Nat, Kind::Hit),
    (Method::Nat, Kind::Reply),
    (Method::Tunnel, Kind::First),
    (Method::Direct, Kind::First),
    (Method::Nat, Kind::First),
    (Method::Tunnel, Kind::New),
    (Method::Direct, Kind::New),
    (Method::Nat, Kind::New),
    (Method::Tunnel, Kind::Syn),
    (Method::Direct, Kind::Syn),
    (Method::Nat, Kind::Syn),
];

fn main() -> ExitCode {
    match measure() {
        Ok(report) if env::args().any(|argument| argument == "--json") => println!("{}", report.json()),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure() -> Result<Report> {
    let mut costs = Vec::new();
    for flows in FLOWS {
        eprintln!("{flows} flows");
        costs.extend(beside(flows).with_context(|| format!("at {flows} flows"))?);
    }
    Ok(Report { rounds: ROUNDS, runs: RUNS, programs: programs()?, costs })
}

/// All cases in turn, again and again, so that what drifts drifts for all of them.
fn beside(flows: u32) -> Result<Vec<Cost>> {
    let mut beds = [Method::Tunnel, Method::Direct, Method::Nat]
        .into_iter()
        .map(|method| Bed::new(method, flows))
        .collect::<Result<Vec<_>>>()?;
    let mut samples = [(); CASES.len()].map(|()| Vec::new());
    for _ in 0..RUNS {
        for ((method, kind), samples) in CASES.iter().zip(&mut samples) {
            for bed in beds.iter_mut().filter(|bed| bed.method == *method) {
                samples.push(bed.measure(*kind, ROUNDS)?);
            }
        }
    }
    Ok(CASES
        .iter()
        .zip(samples)
        .map(|((method, kind), samples)| Cost::of(*method, *kind, flows, samples))
        .collect())
}

/// Instructions the verifier walks through to accept each shipped program.
fn programs() -> Result<Vec<(&'static str, u32)>> {
    let mut plane = DataPlane::load_private(object::EVENKEEL, 1024, 1024)?;
    let mut decap = Decap::load(decap::GUE_PORT)?;
    [("evenkeel", plane.program_named("evenkeel")?), ("decap", decap.program())]
        .into_iter()
        .map(|(name, program)| {
            let verified = program.info()?.verified_instruction_count();
            Ok((name, verified.context("this kernel does not tell instructions verified")?))
        })
        .collect()
}
