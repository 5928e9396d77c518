//! Finds what compiles and links the XDP programs: a rustc that has the source of its library, and bpf-linker.
//!
//! Shared by the build script and xtask; needs nothing but std.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler and a linker that fit each other.
#[derive(Debug, Clone)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: PathBuf,
}

impl Toolchain {
    /// Takes the first of each that will do.
    ///
    /// # Errors
    /// One line that says what is missing and how to get it.
    pub fn find(workspace: &Path) -> Result<Self, String> {
        let compiler = Compiler::find()?;
        let linker = find_linker(workspace, &compiler)?;
        Ok(Self { compiler, linker })
    }

    /// `cargo SUBCOMMAND` for the BPF target, to be run in the workspace, with nothing inherited from the cargo
    /// that runs this.
    ///
    /// `arch` is the architecture the programs will run on, in Rust's words.
    #[must_use]
    pub fn cargo(&self, subcommand: &str, arch: &str, target_dir: &Path) -> Command {
        let mut command = Command::new(&self.compiler.cargo);
        for (name, _) in env::vars_os().filter(|(name, _)| disturbs(name)) {
            command.env_remove(name);
        }
        let flags = [
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".to_owned(),
            "-Cdebuginfo=2".to_owned(),
            format!("--cfg=bpf_target_arch=\"{arch}\""),
        ];
        command
            .arg(subcommand)
            .args(["--package", "lb-ebpf", "--release", "-Zbuild-std=core", "--target", BPF_TARGET])
            .arg("--target-dir")
            .arg(target_dir)
            .env("RUSTC", &self.compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1") // -Zbuild-std with a compiler that is no nightly
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("LD_LIBRARY_PATH", self.compiler.sysroot.join("lib"));
        command
    }
}

/// The programs run on the machine that they are compiled for, so they have its byte order.
pub const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// A rustc whose sysroot has the source of `core`, which no toolchain ships compiled for BPF.
#[derive(Debug, Clone)]
pub struct Compiler {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    pub sysroot: PathBuf,
    /// Major version of the LLVM inside.
    pub llvm: u32,
}

impl Compiler {
    /// Looks at what the environment names, the nightly of rustup, the PATH and the distribution's own, in this order.
    ///
    /// # Errors
    /// One line that says what is missing and how to get it.
    pub fn find() -> Result<Self, String> {
        if let Some(named) = env::var_os(COMPILER_VARIABLE) {
            let named = PathBuf::from(named);
            return Self::at(&named).ok_or_else(|| {
                format!(
                    "{COMPILER_VARIABLE} names {}, which is no rustc with the source of its library (no \
                     lib/rustlib/src/rust/library/core in its sysroot): name another, or unset it",
                    named.display()
                )
            });
        }
        let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
        nightly
            .map(|sysroot| sysroot.join("bin/rustc"))
            .into_iter()
            .chain(["rustc".into(), "/usr/bin/rustc".into()])
            .find_map(|rustc| Self::at(&rustc))
            .ok_or_else(|| {
                "compiling the XDP program takes a rustc that has the source of its library, and none is here: run \
                 `cargo xtask setup` as root (Debian), or `rustup toolchain install nightly --component rust-src`"
                    .to_owned()
            })
    }

    fn at(rustc: &Path) -> Option<Self> {
        let sysroot = sysroot(&mut Command::new(rustc))?;
        if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
            return None;
        }
        // Not rustup's proxy: it would choose again, by a variable or by the folder.
        let rustc = Some(sysroot.join("bin/rustc")).filter(|path| path.is_file())?;
        let cargo = env::var_os("EVENKEEL_BPF_CARGO").map(PathBuf::from);
        let cargo = cargo.unwrap_or_else(|| sysroot.join("bin/cargo"));
        let llvm = llvm_of_compiler(&rustc)?;
        Some(Self { rustc, cargo, sysroot, llvm })
    }
}

/// The linker, if its LLVM can read what the compiler's LLVM writes.
///
/// # Errors
/// One line that says what is missing and how to get it.
pub fn find_linker(workspace: &Path, compiler: &Compiler) -> Result<PathBuf, String> {
    let named = env::var_os(LINKER_VARIABLE).map(PathBuf::from);
    let candidates: Vec<PathBuf> = match &named {
        Some(named) => vec![named.clone()],
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let on_path = env::split_paths(&path).map(|folder| folder.join("bpf-linker"));
            on_path.chain([workspace.join(".tools/bin/bpf-linker")]).collect()
        }
    };
    let mut too_old = None;
    for linker in candidates.into_iter().filter(|path| path.is_file()) {
        match llvm_of_linker(&linker) {
            Some(llvm) if llvm < compiler.llvm => too_old = Some((linker, llvm)),
            _ => return Ok(linker),
        }
    }
    let get = format!(
        "run `cargo xtask setup` as root (Debian), or `cargo install bpf-linker --no-default-features --features \
         llvm-{}`",
        compiler.llvm
    );
    Err(match (too_old, named) {
        (Some((linker, llvm)), _) => format!(
            "{} links with LLVM {llvm}, which cannot read what {} writes with LLVM {}: {get}",
            linker.display(),
            compiler.rustc.display(),
            compiler.llvm
        ),
        (None, Some(named)) => format!(
            "{LINKER_VARIABLE} names {}, which is not there: name another bpf-linker, or unset it",
            named.display()
        ),
        (None, None) => format!("linking the XDP program takes bpf-linker, which is not here: {get}"),
    })
}

const COMPILER_VARIABLE: &str = "EVENKEEL_BPF_RUSTC";
const LINKER_VARIABLE: &str = "EVENKEEL_BPF_LINKER";

/// Variables that, when one changes, may change what is found.
pub const VARIABLES: [&str; 3] = [COMPILER_VARIABLE, "EVENKEEL_BPF_CARGO", LINKER_VARIABLE];

/// Whether a variable set for or by the outer cargo would change what the inner one does.
fn disturbs(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let about_the_network = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
    (name.starts_with("CARGO") && !about_the_network.iter().any(|kept| name.starts_with(kept)))
        || ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CLIPPY_"]
            .iter()
            .any(|start| name.starts_with(start))
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn llvm_of_compiler(rustc: &Path) -> Option<u32> {
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// From the name of the shared library it loads; `None` if LLVM is inside it, or is the compiler's own.
fn llvm_of_linker(linker: &Path) -> Option<u32> {
    let bytes = fs::read(linker).ok()?;
    ["libLLVM.so.", "libLLVM-"].iter().find_map(|name| {
        let name = name.as_bytes();
        let starts = bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        starts.map(|(at, _)| &bytes[at + name.len()..]).find_map(|rest| {
            let digits: String =
                rest.iter().map_while(|byte| (*byte as char).to_digit(10)).map(|d| d.to_string()).collect();
            digits.parse().ok()
        })
    })
}
