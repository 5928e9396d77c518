//! What a packet costs in the real program, by `BPF_PROG_TEST_RUN`, over an empty program in the same wrapper: see
//! BENCHMARKS.md. `cargo xtask bench packets` runs this as root.

mod bed;
mod case;
mod headers;
mod report;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::Xdp;
use evenkeel::dataplane::object;

use bed::Bed;
use case::Path;
use report::{Cost, Report};

/// Established flows beside each other: within the first, second and third cache, and beyond.
const FLOWS: [u32; 4] = [1, 1 << 10, 1 << 16, MOST];
const MOST: u32 = 1 << 20;
/// Unless `--runs` says otherwise.
const RUNS: usize = 7;

/// Packets in one run: every flow is met, and what is around a run does not count.
const fn rounds(flows: u32) -> u32 {
    if flows < 1 << 18 { 1 << 18 } else { flows }
}

fn main() -> ExitCode {
    let asked = env::args().skip_while(|argument| argument != "--runs").nth(1);
    match measure(asked.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)) {
        Ok(report) if env::args().any(|argument| argument == "--json") => println!("{}", report.json()),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(runs: usize) -> Result<Report> {
    let started = Instant::now();
    let mut beds = Path::ALL.into_iter().map(|path| Bed::new(path, MOST)).collect::<Result<Vec<_>>>()?;
    let mut calls = beds.iter_mut().map(Bed::measure_call).collect::<Result<Vec<_>>>()?;
    calls.sort_by(f64::total_cmp);
    let mut costs = Vec::new();
    for flows in FLOWS {
        eprintln!("{flows} flows, after {} s", started.elapsed().as_secs());
        costs.extend(beside(&mut beds, flows, runs).with_context(|| format!("at {flows} flows"))?);
    }
    Ok(Report { runs, programs: programs()?, costs, calls })
}

/// All cases in turn, again and again, so that what drifts drifts for all of them.
fn beside(beds: &mut [Bed], flows: u32, runs: usize) -> Result<Vec<Cost>> {
    for bed in &mut *beds {
        bed.grow(flows)?;
    }
    let mut costs: Vec<Cost> = Vec::new();
    for _ in 0..runs {
        for bed in &mut *beds {
            for (kind, sample) in bed.measure(rounds(flows))? {
                match costs.iter_mut().find(|cost| cost.path == bed.path && cost.kind == kind) {
                    Some(cost) => cost.samples.push(sample),
                    None => costs.push(Cost { path: bed.path, kind, flows, samples: vec![sample] }),
                }
            }
        }
    }
    for cost in &mut costs {
        cost.samples.sort_by(f64::total_cmp);
    }
    Ok(costs)
}

/// Instructions the verifier walks through to accept each shipped program.
fn programs() -> Result<Vec<(&'static str, u32)>> {
    let mut programs = Vec::new();
    let balancer = [&object::BALANCER[..], &["clock", "tables"]].concat();
    for (object, names) in [(object::EVENKEEL, balancer), (object::DECAP, vec!["decap"])] {
        let mut ebpf = Ebpf::load(object)?;
        for name in names {
            let program: &mut Xdp = ebpf.program_mut(name).context("there is no such program")?.try_into()?;
            program.load()?;
            let verified = program.info()?.verified_instruction_count();
            programs.push((name, verified.context("only Linux 5.16 and later tell instructions verified")?));
        }
    }
    Ok(programs)
}
