//! `evenkeel decap`: on a backend without a tunnel device, removes tunnel headers in XDP while it runs.

use std::net::IpAddr;

use anyhow::{Context as _, bail};

use crate::config::model::{Interface, XdpMode};
use crate::dataplane::{DataPlane, Sizes, object};

#[derive(Debug, clap::Args)]
pub struct DecapArgs {
    /// Interface that tunnel packets arrive on; may be given more than once
    #[arg(long, required = true)]
    pub interface: Vec<String>,
    /// Outer destination to remove the header for, an address of this backend; may be given more than once
    #[arg(long, required = true)]
    pub destination: Vec<IpAddr>,
    /// Use generic XDP where the driver has no native one (the default) or always
    #[arg(long)]
    pub generic: bool,
}

/// Attached programs; dropping this detaches them.
pub struct Decap {
    _plane: DataPlane,
}

/// Attaches to every interface.
///
/// # Errors
/// What the kernel refused; nothing stays attached then.
pub fn start(args: &DecapArgs) -> anyhow::Result<Decap> {
    let mut plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1, 1), 1)?;
    if args.destination.len() > 256 {
        bail!("at most 256 destinations, not {}", args.destination.len());
    }
    for destination in &args.destination {
        plane.decap.add(*destination)?;
    }
    let mode = if args.generic { XdpMode::Generic } else { XdpMode::Auto };
    for name in &args.interface {
        let attached = plane.attach("decap", &Interface { name: name.clone(), mode }, None)?;
        let mode = if attached.native { "native" } else { "generic" };
        println!("{name}: removing IPIP headers, {mode} XDP");
        if let Some(note) = attached.note {
            println!("{name}: {note}");
        }
    }
    Ok(Decap { _plane: plane })
}

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// Signals can't be taken.
pub async fn wait(decap: Decap) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.context("cannot take SIGINT")?,
    }
    drop(decap);
    Ok(())
}
