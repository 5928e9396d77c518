//! Compiles the XDP programs and leaves their objects in `OUT_DIR`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use toolchain::{BPF_TARGET, Toolchain, VARIABLES};

#[path = "build/toolchain.rs"]
pub mod toolchain;

/// Each binary of lb-ebpf with the features it is compiled with.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("evenkeel-xdp", &[]),
    ("evenkeel-decap", &[]),
    ("evenkeel-refuse", &[]),
    ("evenkeel-pass", &[]),
    ("evenkeel-bench", &[]),
];

fn main() -> ExitCode {
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let out_dir = variable("OUT_DIR")?;
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let manifest = variable("CARGO_MANIFEST_DIR")?;
    let manifest = Path::new(&manifest);
    let workspace = manifest.parent().ok_or("this package is not in its workspace")?;
    for path in
        ["lb-ebpf", "lb-common", "Cargo.toml", "Cargo.lock", "lb-userspace/build.rs", "lb-userspace/build"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    for name in VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let out_dir = Path::new(&out_dir);
    let target_dir = bpf_target_dir(out_dir);
    let toolchain = Toolchain::find(workspace)?;
    for (program, features) in PROGRAMS {
        let status = toolchain
            .cargo("build", &arch, &target_dir)
            .args(["--locked", "--bin", program, "--features", &features.join(",")])
            .current_dir(workspace)
            .status()
            .map_err(|e| format!("cannot run {}: {e}", toolchain.compiler.cargo.display()))?;
        if !status.success() {
            return Err(format!(
                "the XDP program {program} does not compile ({status}): what it says is above"
            ));
        }
        let object = target_dir.join(BPF_TARGET).join("release").join(program);
        fs::copy(&object, out_dir.join(program))
            .map_err(|e| format!("cannot read {}: {e}", object.display()))?;
    }
    Ok(())
}

/// One folder for debug, release and clippy: the programs are the same in each.
fn bpf_target_dir(out_dir: &Path) -> PathBuf {
    let profile = out_dir.ancestors().find(|folder| folder.ends_with("build")).and_then(Path::parent);
    profile.and_then(Path::parent).unwrap_or(out_dir).join("bpf")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this runs from cargo only"))
}
