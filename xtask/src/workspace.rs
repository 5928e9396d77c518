//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::toolchain::BPF_TARGET;

/// The folder of the workspace's Cargo.toml.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Cargo's target folder, found from where this program was built to.
///
/// # Errors
/// This program does not lie in a target folder.
pub fn target_dir() -> Result<PathBuf> {
    let executable = env::current_exe().context("cannot find this program's own file")?;
    let profile = executable.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let target = profile.and_then(Path::parent);
    let target =
        target.with_context(|| format!("{} is not in a target folder of cargo", executable.display()))?;
    Ok(target.to_owned())
}

/// The daemon's binary.
///
/// # Errors
/// It has not been built.
pub fn evenkeel() -> Result<PathBuf> {
    let path = target_dir()?.join("debug/evenkeel");
    ensure!(path.is_file(), "{} is not built: run `cargo xtask build`", path.display());
    Ok(path)
}

/// An object with one of the XDP programs.
///
/// # Errors
/// It has not been built.
pub fn xdp_object(program: &str) -> Result<PathBuf> {
    let path = bpf_target_dir()?.join(BPF_TARGET).join("release").join(program);
    ensure!(path.is_file(), "{} is not built: run `cargo xtask build`", path.display());
    Ok(path)
}

/// Where the XDP programs are compiled to.
///
/// # Errors
/// This program does not lie in a target folder.
pub fn bpf_target_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("bpf"))
}
