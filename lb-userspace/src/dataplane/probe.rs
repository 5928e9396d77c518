//! What of the kernel the data plane needs, and what it can do without, asked before anything is loaded: so that an old kernel
//! is called one, instead of what it says of a program or a map that it does not understand.
//!
//! What is as old as something else here is not asked for: links of XDP programs (5.9) are there where atomic operations are.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported};
use thiserror::Error;

use super::batch::{self, ENOTSUPP, bpf};

/// The kernel lacks what the data plane can't do without.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this kernel, {release}, is too old: it lacks {}; Linux {since} has all of it", lacks.join(", "))]
pub struct TooOld {
    release: String,
    lacks: Vec<&'static str>,
    since: Since,
}

/// The first release that has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Since(u32, u32);

impl fmt::Display for Since {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}", self.0, self.1)
    }
}

struct Feature {
    name: &'static str,
    since: Since,
    /// What it costs to do without; `None` if that can't be.
    without: Option<&'static str>,
    /// Whether the kernel has it. An error is none of its answers: a lack of privileges, say.
    probe: fn() -> io::Result<bool>,
}

const FEATURES: [Feature; 8] = [
    Feature {
        name: "arrays that can be mapped into memory",
        since: Since(5, 5),
        without: None,
        probe: || Ok(create(&Map { flags: BPF_F_MMAPABLE, ..ARRAY })?.is_some()),
    },
    Feature {
        name: "functions in BPF that are verified by themselves",
        since: Since(5, 6),
        without: None,
        probe: || {
            aya::features().btf().map(|btf| btf.btf_func_global()).ok_or_else(|| io::Error::other("no BTF"))
        },
    },
    Feature {
        name: "the helper bpf_jiffies64",
        since: Since(5, 6),
        without: None,
        probe: || {
            is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_jiffies64).map_err(io::Error::other)
        },
    },
    Feature {
        name: "ring buffers",
        since: Since(5, 8),
        without: None,
        probe: || is_map_supported(MapType::RingBuf).map_err(io::Error::other),
    },
    Feature {
        name: "tail calls beside functions in BPF, for which net.core.bpf_jit_enable must not be 0",
        since: if cfg!(target_arch = "x86_64") { Since(5, 10) } else { Since(6, 0) },
        without: None,
        probe: tail_calls,
    },
    Feature {
        name: "atomic operations in BPF that return what was there",
        since: Since(5, 12),
        without: None,
        probe: atomics,
    },
    Feature {
        name: "reading maps of prefixes in batches",
        since: Since(5, 13),
        without: None,
        probe: || create(&TRIE)?.map_or(Ok(false), |map| batch::can_read(map.as_fd())),
    },
    Feature {
        name: "writing arrays of maps in batches",
        since: Since(5, 19),
        without: Some(
            "a table that changes takes some 10 ms by itself, where many would be put in place at once",
        ),
        probe: || {
            let Some(inner) = create(&ARRAY)? else { return Ok(false) };
            let outer =
                Map { kind: MapType::ArrayOfMaps as u32, value: 4, inner: inner.as_raw_fd(), ..ARRAY };
            create(&outer)?.map_or(Ok(false), |map| batch::can_write(map.as_fd()))
        },
    },
];

/// Asks the kernel, and logs what of it is missing and can be done without.
///
/// # Errors
/// It lacks what can't be done without.
pub fn check() -> Result<(), TooOld> {
    let found: Vec<_> = FEATURES.iter().map(|feature| (feature, (feature.probe)())).collect();
    for line in judge(&release(), &found)? {
        tracing::info!("{line}");
    }
    Ok(())
}

/// What to log. A probe without an answer says nothing: what is to be loaded will.
fn judge(release: &str, found: &[(&Feature, io::Result<bool>)]) -> Result<Vec<String>, TooOld> {
    let missing =
        || found.iter().filter(|(_, there)| matches!(there, Ok(false))).map(|(feature, _)| *feature);
    let needed: Vec<&Feature> = missing().filter(|feature| feature.without.is_none()).collect();
    if let Some(since) = needed.iter().map(|feature| feature.since).max() {
        let lacks = needed.iter().map(|feature| feature.name).collect();
        return Err(TooOld { release: release.to_owned(), lacks, since });
    }
    let tell = |feature: &Feature| {
        let Feature { name, since, without, .. } = feature;
        Some(format!("this kernel, {release}, lacks {name} (Linux {since}): {}", (*without)?))
    };
    Ok(missing().filter_map(tell).collect())
}

fn release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "of unknown release".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// Of the kernel's include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The first fields of `union bpf_attr` for a map.
#[repr(C)]
struct Map {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: RawFd,
}

const ARRAY: Map = Map { kind: MapType::Array as u32, key: 4, value: 8, entries: 1, flags: 0, inner: 0 };
/// A prefix length and four bytes.
const TRIE: Map = Map { kind: MapType::LpmTrie as u32, key: 8, flags: BPF_F_NO_PREALLOC, ..ARRAY };

/// `None`: the kernel knows no such map, or no such flag.
fn create(map: &Map) -> io::Result<Option<OwnedFd>> {
    let mut attr = Map { ..*map };
    // SAFETY: these are the first fields of the attribute, and the kernel takes the rest for zeros.
    known(unsafe { bpf(BPF_MAP_CREATE, &mut attr) })
}

/// The first fields of `union bpf_attr` for a program.
#[repr(C)]
struct Program {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// Loads a program that adds to a word on its stack and takes what was there.
fn atomics() -> io::Result<bool> {
    const CODE: [[u8; 8]; 6] = [
        // r1 = 1
        [0xb7, 0x01, 0, 0, 1, 0, 0, 0],
        // *(u64 *)(r10 - 8) = r1
        [0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0],
        // r1 = atomic_fetch_add((u64 *)(r10 - 8), r1)
        [0xdb, 0x1a, 0xf8, 0xff, 1, 0, 0, 0],
        // r0 = 1; r0 = cmpxchg_64(r10 - 8, r0, r1); exit
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
        [0xdb, 0x1a, 0xf8, 0xff, 0xf1, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ];
    loads(&CODE)
}

/// Loads a program that calls a function and then goes on in another program.
fn tail_calls() -> io::Result<bool> {
    let Some(array) = create(&Map { kind: MapType::ProgramArray as u32, value: 4, ..ARRAY })? else {
        return Ok(false);
    };
    let [a, b, c, d] = array.as_raw_fd().to_le_bytes();
    loads(&[
        // r6 = r1; call the function
        [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
        [0x85, 0x10, 0, 0, 7, 0, 0, 0],
        // r1 = r6; r2 = the array; r3 = 0; bpf_tail_call
        [0xbf, 0x61, 0, 0, 0, 0, 0, 0],
        [0x18, 0x12, 0, 0, a, b, c, d],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0xb7, 0x03, 0, 0, 0, 0, 0, 0],
        [0x85, 0, 0, 0, 12, 0, 0, 0],
        // r0 = 1; exit
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
        // The function: r0 = 0; exit
        [0xb7, 0x00, 0, 0, 0, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ])
}

fn loads(code: &[[u8; 8]]) -> io::Result<bool> {
    let mut attr = Program {
        kind: BPF_PROG_TYPE_XDP,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: as in `create`; code and license are there while the kernel reads them.
    known(unsafe { bpf(BPF_PROG_LOAD, &mut attr) }).map(|program| program.is_some())
}

/// The descriptor that the kernel made; `None` if it does not know what it was asked for.
fn known(made: io::Result<libc::c_long>) -> io::Result<Option<OwnedFd>> {
    match made {
        // SAFETY: the kernel just made it, so it is nobody else's.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
        Err(error) if [Some(ENOTSUPP), Some(libc::EINVAL)].contains(&error.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(missing: &[&str]) -> Vec<(&'static Feature, io::Result<bool>)> {
        FEATURES.iter().map(|feature| (feature, Ok(!missing.contains(&feature.name)))).collect()
    }

    #[test]
    fn a_kernel_with_everything_is_not_worth_a_line() {
        assert_eq!(judge("6.18.0", &found(&[])), Ok(Vec::new()));
    }

    #[test]
    fn what_can_be_done_without_is_one_line_with_its_cost() {
        let lines = judge("5.15.0", &found(&["writing arrays of maps in batches"])).unwrap();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains("5.15.0") && line.contains("(Linux 5.19)") && line.contains("10 ms"), "{line}");
    }

    #[test]
    fn what_is_needed_is_one_error_that_names_the_first_kernel_with_all_of_it() {
        let missing =
            ["ring buffers", "reading maps of prefixes in batches", "writing arrays of maps in batches"];
        let error = judge("5.4.0", &found(&missing)).unwrap_err().to_string();
        assert_eq!(
            error,
            "this kernel, 5.4.0, is too old: it lacks ring buffers, reading maps of prefixes in batches; Linux 5.13 has all \
             of it"
        );
    }

    #[test]
    fn a_probe_that_is_not_allowed_says_nothing() {
        let denied = |feature| (feature, Err(io::Error::from_raw_os_error(libc::EPERM)));
        let found: Vec<_> = FEATURES.iter().map(denied).collect();
        assert_eq!(judge("6.18.0", &found), Ok(Vec::new()));
    }

    #[test]
    fn features_are_in_the_order_of_the_kernels_that_brought_them() {
        assert!(FEATURES.is_sorted_by_key(|feature| feature.since));
    }

    #[test]
    #[ignore = "needs root: cargo xtask test"]
    fn every_probe_has_an_answer_and_this_kernel_has_what_is_needed() {
        for feature in &FEATURES {
            let there = (feature.probe)().unwrap();
            assert!(there || feature.without.is_some(), "{}", feature.name);
        }
        // A kernel that lacks what nobody has made yet.
        assert!(create(&Map { flags: 1 << 31, ..ARRAY }).unwrap().is_none());
        assert!(create(&Map { kind: 9999, ..ARRAY }).unwrap().is_none());
    }
}
