//! `cargo xtask test kernel`: the tests of the real XDP program, of the daemon with a service, and of VLAN interfaces, on
//! another kernel in a virtual machine: that of Debian 12, or an older one.
//!
//! The machine is emulated (`-accel tcg`): a kernel of another's choice does not run on every host's KVM. It boots in a
//! few seconds from an initramfs of busybox and the modules it needs, and sees this host's files read-only by 9p, with
//! what it writes kept in its memory. Times measured in it mean nothing.

mod image;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;

use super::{Tally, run_and_count};
use image::Kernel;
pub use image::Version;

use crate::shell::{capture, cargo, say, tell};
use crate::{build, setup, workspace};

const MODULES: [&str; 12] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "veth",
    "bridge",
    "8021q",
    "ipip",
    "sit",
    "ip6_tunnel",
    "fou",
    "fou6",
];
/// Tells the tests of `decap` that the kernel has every tunnel device.
const TUNNEL_DEVICES: &str = "EVENKEEL_TUNNEL_DEVICES=1";
/// Single tests of other test binaries that run there. Others count on times that an emulated machine does not keep.
const SINGLE_TESTS: [&str; 2] = [
    "nat::two_arms_new_connections_spread_over_the_servers",
    "next_hop::a_vlan_interface_adds_its_tag_and_its_frames_leave_by_the_one_below_it",
];
const INIT: &str = include_str!("init.sh");
/// What `init.sh` says when the tests have passed.
const PASSED: &str = "guest: passed";
/// The tests take half an hour on two cores, nearly all of it the verifier, which is emulated too; a guest that hangs ends here.
const LIMIT: &str = "90m";

/// Installs the emulator, fetches the kernel, boots it and runs the tests in it.
///
/// # Errors
/// A test fails, or the machine cannot be made ready.
pub(super) fn run_tests(version: Version, only: Option<&str>) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "this takes root: it installs packages and reads this host's files as they are"
    );
    setup::everything()?;
    setup::virtual_machine()?;
    let folder = workspace::root().join(".tools/kernel");
    let kernel = version.fetch(&folder)?;
    say("compiling");
    build::all(false)?;
    let dataplane = test_binary("lb-userspace", "dataplane")?;
    let singles = [test_binary("xtask", "system")?, test_binary("lb-userspace", "vrrp")?];
    let script = guest_script(&dataplane, &singles, version.skipped(), only);
    let image = folder.join("initramfs");
    write_initramfs(&kernel, &folder.join("root"), &image, &script)?;
    say(&format!("booting {}", kernel.release));
    let (tally, passed) = boot(&kernel, &image)?;
    tell(format_args!("\non Linux {}: {} passed, {} failed", kernel.release, tally.passed, tally.failed));
    ensure!(
        passed,
        "a test failed on Linux {}, or the guest did not get that far: see above",
        kernel.release
    );
    Ok(())
}

fn test_binary(package: &str, test: &str) -> Result<PathBuf> {
    let messages = capture(
        cargo()
            .args(["test", "--locked", "--package", package, "--test", test])
            .args(["--no-run", "--message-format", "json"])
            .current_dir(workspace::root()),
    )?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == test).then_some(())?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executables.next_back().with_context(|| format!("cargo names no binary of the test {test}"))
}

fn guest_script(dataplane: &Path, singles: &[PathBuf; 2], skipped: &[&str], only: Option<&str>) -> String {
    let folder = workspace::root().join("lb-userspace");
    let options = "--include-ignored --color never";
    let skip: String = skipped.iter().map(|test| format!(" --skip '{test}'")).collect();
    let mut script = format!(
        "cd '{}' && {TUNNEL_DEVICES} '{}' {options}{skip} '{}'",
        folder.display(),
        dataplane.display(),
        only.unwrap_or_default()
    );
    for (program, test) in singles.iter().zip(SINGLE_TESTS) {
        if only.is_none_or(|only| test.contains(only)) {
            script += &format!(" && '{}' {options} --exact {test}", program.display());
        }
    }
    script + "\n"
}

fn write_initramfs(kernel: &Kernel, root: &Path, image: &Path, script: &str) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    fs::create_dir_all(root.join("modules")).with_context(|| format!("cannot make {}", root.display()))?;
    let dependencies = fs::read_to_string(kernel.modules().join("modules.dep"))?;
    let built_in = fs::read_to_string(kernel.modules().join("modules.builtin"))?;
    for (number, module) in load_order(&dependencies, &built_in, &MODULES)?.iter().enumerate() {
        // In the order of their names, which is what a shell expands to.
        let name = format!("{number:02}.ko");
        fs::copy(kernel.modules().join(module), root.join("modules").join(name))
            .with_context(|| format!("cannot copy {module}"))?;
    }
    fs::copy(kernel.busybox(), root.join("busybox")).context("cannot copy busybox")?;
    fs::write(root.join("script"), script)?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let names = capture(Command::new(kernel.busybox()).arg("find").current_dir(root))?;
    let mut pack = Command::new(kernel.busybox())
        .args(["cpio", "-o", "-H", "newc", "-F"])
        .arg(image)
        .current_dir(root)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run busybox")?;
    if let Some(mut input) = pack.stdin.take() {
        input.write_all(names.as_bytes()).context("cannot write to busybox")?;
    }
    ensure!(pack.wait()?.success(), "cannot pack {}", image.display());
    Ok(())
}

/// Files of these modules and of what they depend on, each after its own dependencies, but for what the kernel has in it.
fn load_order(modules_dep: &str, built_in: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let lines: BTreeMap<&str, (&str, &str)> = modules_dep
        .lines()
        .filter_map(|line| {
            let (file, dependencies) = line.split_once(':')?;
            Some((module_name(file)?, (file, dependencies)))
        })
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        if built_in.lines().any(|file| module_name(file) == Some(name)) {
            continue;
        }
        let Some((file, dependencies)) = lines.get(name) else { bail!("this kernel has no module {name}") };
        // modules.dep names them all, nearest first.
        for file in dependencies.split_whitespace().rev().chain([*file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

fn module_name(file: &str) -> Option<&str> {
    file.rsplit('/').next()?.split(".ko").next()
}

fn boot(kernel: &Kernel, image: &Path) -> Result<(Tally, bool)> {
    let mut machine = Command::new("timeout");
    machine
        .args([LIMIT, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args([
            "-smp",
            "2",
            "-m",
            "2048",
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"])
        .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image);
    let mut passed = false;
    let (tally, ended) = run_and_count(&mut machine, |line| passed |= line.trim() == PASSED)?;
    Ok((tally, ended && passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_depend_on_and_once() {
        let modules_dep = "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n\
                           kernel/net/9p/9pnet.ko:\n\
                           kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko\n";
        assert_eq!(
            load_order(modules_dep, "", &["9p", "9pnet_virtio"]).unwrap(),
            [
                "kernel/fs/netfs/netfs.ko",
                "kernel/net/9p/9pnet.ko",
                "kernel/fs/9p/9p.ko",
                "kernel/net/9p/9pnet_virtio.ko"
            ]
        );
        assert!(load_order(modules_dep, "", &["veth"]).is_err());
    }

    #[test]
    fn what_the_kernel_has_in_it_is_not_loaded() {
        let built_in = "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_pci.ko\n";
        assert!(load_order("", built_in, &["virtio_pci"]).unwrap().is_empty());
        assert!(load_order("", built_in, &["virtio_net"]).is_err());
    }
}
