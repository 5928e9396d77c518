//! What a fresh Debian needs. Looks first, installs only what is missing, can be run again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use crate::shell::{self, capture, run, say, which};
use crate::toolchain::{Compiler, find_linker};
use crate::workspace;

/// A version that is known to link with what the compilers here write.
const BPF_LINKER_VERSION: &str = "0.13.0";

const BPF_FOLDER: &str = "/sys/fs/bpf";

/// Programs and the packages they come in. The `-core` packages of MariaDB start no service.
const PROGRAMS: [(&str, &str); 13] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("nginx", "nginx-light"),
    ("mariadbd", "mariadb-server-core"),
    ("mariadb", "mariadb-client-core"),
    ("keepalived", "keepalived"),
];

/// Units that these packages would start at the next boot.
const UNITS: [(&str, &str); 2] = [("nginx-light", "nginx.service"), ("keepalived", "keepalived.service")];

/// Makes the machine ready to build, test and show everything.
///
/// # Errors
/// It takes root and has not got it, or something cannot be installed.
pub fn everything() -> Result<()> {
    if !geteuid().is_root() {
        bail!(
            "this takes root (network namespaces, XDP): run it as root, or with `sudo env PATH=\"$PATH\" cargo xtask …`"
        );
    }
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if Compiler::find().is_err() {
        packages.extend(["rustc-web", "cargo-web", "rust-web-src"]);
    }
    install(&packages)?;
    linker()?;
    bpf_folder()
}

/// What [`everything`] leaves out: an emulator, for tests on another kernel.
///
/// # Errors
/// It cannot be installed.
pub fn virtual_machine() -> Result<()> {
    if which("qemu-system-x86_64").is_some() { Ok(()) } else { install(&["qemu-system-x86"]) }
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if which("apt-get").is_none() {
        bail!(
            "this machine has no apt-get: install what Debian has in the packages {} by its own means, then run this \
             again",
            packages.join(", ")
        );
    }
    say(&format!("installing with apt-get: {}", packages.join(" ")));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "Dpkg::Use-Pty=0"]);
        apt
    };
    run(apt().arg("update"))?;
    let no_service = NoService::new()?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    drop(no_service);
    for (_, unit) in UNITS.iter().filter(|(package, _)| packages.contains(package)) {
        if Path::new("/run/systemd/system").is_dir() {
            run(Command::new("systemctl").args(["disable", unit]))?;
        }
    }
    Ok(())
}

/// While it lives, packages that are installed start no service: the tests start their own, in namespaces.
struct NoService {
    made: bool,
}

impl NoService {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        let made = !Path::new(Self::POLICY).exists();
        if made {
            // 101: "action forbidden by policy", in the interface of invoke-rc.d.
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
            fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { made })
    }
}

impl Drop for NoService {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

/// bpf-linker, into the workspace's own folder, with the LLVM that the compiler has.
fn linker() -> Result<()> {
    let compiler = Compiler::find().map_err(anyhow::Error::msg)?;
    if find_linker(workspace::root(), &compiler).is_ok() {
        return Ok(());
    }
    let llvm = compiler.llvm;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let packages = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), "g++".to_owned()];
    let missing: Vec<&str> = packages.iter().map(String::as_str).filter(|name| !installed(name)).collect();
    install(&missing)?;

    let tools = workspace::root().join(".tools");
    say(&format!(
        "installing bpf-linker {BPF_LINKER_VERSION} for LLVM {llvm} into {}: about a minute",
        tools.display()
    ));
    run(shell::cargo()
        .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER_VERSION, "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(&tools)
        .env_remove("CARGO_TARGET_DIR")
        .env("LLVM_PREFIX", &prefix)
        // The crate that binds LLVM 22 is llvm-sys 221.
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix))
}

fn installed(package: &str) -> bool {
    let state =
        capture(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    state.is_ok_and(|state| state == "installed")
}

fn bpf_folder() -> Result<()> {
    if statfs(BPF_FOLDER).is_ok_and(|info| info.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    say(&format!("mounting {BPF_FOLDER}"));
    mount(Some("bpf"), BPF_FOLDER, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount {BPF_FOLDER}"))
}
