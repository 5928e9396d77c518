//! A shared Ethernet segment: a bridge in a namespace of its own.

use anyhow::Result;

use super::Host;
use super::stub::Stub;

/// Offloads that leave work to a device that a veth pair has not got: an XDP program would see packets with the
/// checksum not filled in, and pass them on like that.
const OFFLOADS: [&str; 10] = ["tx", "off", "gso", "off", "tso", "off", "gro", "off", "txvlan", "off"];

#[derive(Debug, Clone)]
pub struct Segment {
    switch: Host,
    stub: Stub,
}

impl Segment {
    pub(super) fn new(switch: Host, stub: Stub) -> Result<Self> {
        switch.run(["ip", "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0"])?;
        switch.run(["ip", "link", "set", "bridge", "up"])?;
        Ok(Self { switch, stub })
    }

    /// Where the bridge is.
    #[must_use]
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    /// Gives a host an interface on this segment.
    ///
    /// # Errors
    /// The host has an interface of that name, or the address is none.
    pub fn attach(&self, host: &Host, interface: &str, addresses: &[&str]) -> Result<()> {
        let switch = &self.switch;
        let port = port_name(host, interface);
        switch.run([
            "ip",
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            interface,
            "netns",
            host.namespace(),
        ])?;
        for (end, device) in [(switch, port.as_str()), (host, interface)] {
            end.run(["ethtool", "-K", device].iter().chain(&OFFLOADS))?;
        }
        self.stub.attach(switch, &port)?;
        switch.run(["ip", "link", "set", &port, "master", "bridge", "up"])?;
        host.run(["ip", "link", "set", interface, "up"])?;
        for address in addresses {
            host.add_address(interface, address)?;
        }
        Ok(())
    }

    /// Sets the MTU of a host's interface and of the port that it is plugged into.
    ///
    /// # Errors
    /// The host has no such interface on this segment, or the MTU is none.
    pub fn set_mtu(&self, host: &Host, interface: &str, mtu: u16) -> Result<()> {
        for (end, device) in [(&self.switch, port_name(host, interface).as_str()), (host, interface)] {
            end.run(["ip", "link", "set", device, "mtu", &mtu.to_string()])?;
        }
        Ok(())
    }

    /// Has the switch pass nothing to or from a host, or pass everything again; the carrier stays, so nobody is told.
    ///
    /// # Errors
    /// The host has no such interface on this segment.
    pub fn set_passing(&self, host: &Host, interface: &str, passing: bool) -> Result<()> {
        let port = port_name(host, interface);
        let wanted: &[&str] = if passing { &["master", "bridge"] } else { &["nomaster"] };
        self.switch.run(["ip", "link", "set", &port].iter().chain(wanted)).map(drop)
    }

    /// Pulls the cable of a host, or puts it back.
    ///
    /// # Errors
    /// The host has no such interface on this segment.
    pub fn set_cable(&self, host: &Host, interface: &str, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.run(["ip", "link", "set", &port_name(host, interface), state]).map(drop)
    }
}

/// At most 15 characters, the kernel's limit.
fn port_name(host: &Host, interface: &str) -> String {
    let name = format!("{}.{interface}", host.name());
    name.chars().skip(name.len().saturating_sub(15)).collect()
}
