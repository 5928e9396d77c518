//! Test runs without a lock, so that several threads may run the program at once.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::programs::Xdp;
use evenkeel::dataplane::DataPlane;

/// XDP action.
pub(crate) const TRANSMIT: u32 = 3;

/// Bytes that no program here makes a packet grow by: two tags, IPv6 and UDP in front, an ICMP error around.
const GROWTH: usize = 256;
const MOST: usize = 4096;

/// `struct { … } test` of `union bpf_attr` in the kernel's include/uapi/linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    action: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    zero: u32,
}

const BPF_PROG_TEST_RUN: libc::c_long = 10;

pub(crate) struct Runner {
    program: OwnedFd,
    out: Vec<u8>,
}

impl Runner {
    pub(crate) fn new(plane: &mut DataPlane, program: &'static str) -> Self {
        Self::of(plane.program_named(program).unwrap())
    }

    pub(crate) fn of(program: &Xdp) -> Self {
        let program = program.fd().unwrap().as_fd().try_clone_to_owned().unwrap();
        Self { program, out: vec![0; MOST + GROWTH] }
    }

    /// What the program returned, and the frame as it left it.
    pub(crate) fn run(&mut self, frame: &[u8]) -> (u32, &[u8]) {
        let (action, _, length) = self.rounds(frame, 1).unwrap();
        (action, &self.out[..length])
    }

    /// As many rounds, each with the frame that the one before left: what the last one returned, the mean nanoseconds
    /// that one took, and the length of the frame.
    pub(crate) fn rounds(&mut self, frame: &[u8], rounds: u32) -> io::Result<(u32, u32, usize)> {
        let mut run = TestRun {
            program: self.program.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            size_out: self.out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: self.out.as_mut_ptr() as u64,
            repeat: rounds,
            ..TestRun::default()
        };
        loop {
            // SAFETY: the kernel reads `frame` and writes at most `size_out` bytes to `out`; both outlive the call.
            let result = unsafe {
                libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<TestRun>())
            };
            if result == 0 {
                return Ok((run.action, run.duration, run.size_out as usize));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// The frame that the last run left.
    pub(crate) fn left(&self, length: usize) -> &[u8] {
        &self.out[..length]
    }
}
