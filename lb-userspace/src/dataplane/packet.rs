//! One packet through the real program, by `BPF_PROG_TEST_RUN`.

use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};

use super::{DataPlane, LoadError};

/// What the program did with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `XDP_DROP` 1, `XDP_PASS` 2, `XDP_TX` 3, `XDP_REDIRECT` 4.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the kernel refuses the test run: {0}")]
    Run(#[from] ProgramError),
    #[error("the program returned {0}")]
    Action(u32),
}

impl DataPlane {
    /// Runs `frame` through a program as if it had arrived on the interface of that index, 0 for none in particular.
    ///
    /// # Errors
    /// The kernel takes frames of at least 14 bytes and of less than a page.
    pub fn run(&mut self, program: &'static str, frame: &[u8], ifindex: u32) -> Result<Outcome, RunError> {
        run(self.program_named(program)?, frame, ifindex)
    }
}

/// As [`DataPlane::run`].
pub(super) fn run(program: &mut Xdp, frame: &[u8], ifindex: u32) -> Result<Outcome, RunError> {
    let mut out = vec![0; frame.len() + 256];
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. The kernel takes an
    // interface only together with a queue it has; queue 0 is always there.
    let words = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let context: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    if ifindex != 0 {
        options.ctx_in = Some(&context);
    }
    let result = program.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok(Outcome { action: result.return_value, frame: out })
}
