//! Kernels to test on, from the cache or a mirror. Nothing of them is installed on this host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::shell::{capture, run, say};

/// Which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Version {
    /// The newest of Debian 12
    #[default]
    #[value(name = "6.1")]
    Debian12,
    /// The first of Ubuntu 22.04
    #[value(name = "5.15")]
    Ubuntu2204,
}

/// An unpacked kernel package, and the programs of its initramfs.
pub(super) struct Kernel {
    pub(super) folder: PathBuf,
    /// As `uname -r` says it.
    pub(super) release: String,
}

/// Depends on the newest kernel of the release.
const DEBIAN: &str = "linux-image-amd64";

/// The kernel that Ubuntu 22.04 came with: the archive keeps it as long as the release.
const UBUNTU_RELEASE: &str = "5.15.0-25-generic";
const UBUNTU_POOL: &str = "https://archive.ubuntu.com/ubuntu/pool/main/l";
/// Files there, and what they sum to: other than Debian's, no index that apt has says so.
const UBUNTU_FILES: [(&str, &str); 2] = [
    (
        "linux-signed/linux-image-5.15.0-25-generic_5.15.0-25.25_amd64.deb",
        "ad56f8c442a54d4f5ff2dff010d00321d53e32b543f3a92f3ba4e042d20a71da",
    ),
    (
        "linux/linux-modules-5.15.0-25-generic_5.15.0-25.25_amd64.deb",
        "d0ba4087d9e1d497925b3481d3531fba6c2a852855f8019d73b0b1385aa4da1f",
    ),
];
/// Part of apt: downloads a file and compares its checksum.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

impl Version {
    /// # Errors
    /// It can't be fetched or unpacked.
    pub(super) fn fetch(self, cache: &Path) -> Result<Kernel> {
        if let Some(kernel) = self.find(cache).ok().filter(Kernel::is_whole) {
            return Ok(kernel);
        }
        run(Command::new("apt-get").args(["-q", "update"]))?;
        let kernel = self.find(cache)?;
        let release = &kernel.release;
        say(&format!("fetching Linux {release} into {}", cache.display()));
        let packages = cache.join("packages");
        fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
        run(Command::new("apt-get").args(["-q", "download", "busybox-static"]).current_dir(&packages))?;
        self.download(release, &packages)?;
        for entry in fs::read_dir(&packages)? {
            run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&kernel.folder))?;
        }
        fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
        run(Command::new(kernel.busybox()).args(["depmod", "-b"]).arg(&kernel.folder).arg(release))?;
        Ok(kernel)
    }

    /// Where the kernel is once it was fetched.
    fn find(self, cache: &Path) -> Result<Kernel> {
        let release = match self {
            Self::Debian12 => newest_of_debian()?,
            Self::Ubuntu2204 => UBUNTU_RELEASE.to_owned(),
        };
        Ok(Kernel { folder: cache.join(&release), release })
    }

    /// Its packages into a folder.
    fn download(self, release: &str, folder: &Path) -> Result<()> {
        match self {
            Self::Debian12 => {
                let package = format!("linux-image-{release}");
                run(Command::new("apt-get").args(["-q", "download", &package]).current_dir(folder))
            }
            Self::Ubuntu2204 => UBUNTU_FILES.iter().try_for_each(|(file, sum)| {
                let name = file.rsplit('/').next().unwrap_or(file);
                run(Command::new(APT_HELPER)
                    .args(["download-file", &format!("{UBUNTU_POOL}/{file}"), name, &format!("SHA256:{sum}")])
                    .current_dir(folder))
            }),
        }
    }
}

/// The newest kernel that apt knows of.
fn newest_of_debian() -> Result<String> {
    let depends = capture(Command::new("apt-cache").args(["depends", DEBIAN]))?;
    let release = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let release = release.with_context(|| format!("apt knows no {DEBIAN}: this runs on Debian on x86-64"))?;
    Ok(release.to_owned())
}

impl Kernel {
    fn is_whole(&self) -> bool {
        self.modules().join("modules.dep").is_file()
    }

    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    pub(super) fn busybox(&self) -> PathBuf {
        self.folder.join("bin/busybox")
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }
}
