//! ICMP errors about packets of flows: too big, unreachable, time exceeded, parameter problem (RFC 792).
//!
//! An error quotes the header of the packet it is about. Turned around, that header's 5-tuple is the key of a flow, and
//! says whom the error is for: about a reply, the backend; about a packet of the client that was rewritten, the client.
//! With `nat` the error is rewritten as the flow is, outside and in the quotation (RFC 5508 section 4.2). It changes no
//! state: a forged one goes where the flow goes and moves nothing.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;
use lb_common::flow::{FlowKey, FlowValue};
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::balance::{conclude, serving};
use crate::forward;
use crate::maps::{backends, flows, half_open, services};
use crate::miss;
use crate::packet::{Ethernet, Icmp, Ipv4, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tcp, Udp, at};
use crate::transmit::transmit;

const ICMP: usize = size_of::<Ethernet>() + size_of::<Ipv4>();
const QUOTED: usize = ICMP + size_of::<Icmp>();

/// A function of its own: what is rare must not cost the rest registers and stack.
#[inline(never)]
pub(crate) fn run(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    conclude(&ctx, handle(&ctx))
}

/// `Err` leaves what is no such error to the kernel.
#[inline(always)]
fn handle(ctx: &XdpContext) -> Result<(Reason, u32), Reason> {
    let Some(error) = parse(ctx) else {
        return Err(Reason::OtherProtocol);
    };
    let value = match flows::get(&error.packet.key) {
        // SAFETY: copied at once, from an element that stays readable until this program ends.
        Some(value) => Some(unsafe { *value }),
        None => half_open::get(&error.packet.key),
    };
    match value {
        Some(value) if value.is_forward() => {
            if serving(&value).is_none() {
                return Err(Reason::NoBackend);
            }
            to_backend(ctx, &error, value.method, value.backend)
        }
        Some(value) => to_client(ctx, &error, &value),
        None => {
            let Some(service) = services::get(&error.packet.key) else {
                return Err(Reason::OtherProtocol);
            };
            let choice = miss::choose(&error.packet, &service);
            to_backend(ctx, &error, service.method as u8, choice.number)
        }
    }
}

struct IcmpError {
    /// The error as it arrived; its key is the quoted 5-tuple turned around.
    packet: Packet,
    icmp: *mut Icmp,
    quoted: *mut Ipv4,
    ports: *mut Udp,
    /// Where a quoted TCP header would be.
    transport_offset: usize,
}

#[inline(always)]
fn parse(ctx: &XdpContext) -> Option<IcmpError> {
    let ethernet: *mut Ethernet = at(ctx, 0)?;
    let ip: *mut Ipv4 = at(ctx, size_of::<Ethernet>())?;
    let icmp: *mut Icmp = at(ctx, ICMP)?;
    let quoted: *mut Ipv4 = at(ctx, QUOTED)?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        if (*ip).protocol() != PROTOCOL_ICMP || (*ip).version_ihl != 0x45 || !(*icmp).is_error() {
            return None;
        }
        let header_length = (*quoted).header_length();
        let protocol = (*quoted).protocol();
        if (*quoted).version_ihl >> 4 != 4
            || header_length < size_of::<Ipv4>()
            || (*quoted).fragment & Ipv4::OFFSET_MASK != 0
            || !(protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP)
            // An error goes to the sender of what it quotes.
            || (*quoted).source != (*ip).destination
        {
            return None;
        }
        let transport_offset = QUOTED + header_length;
        // Eight bytes of it are all that is promised (RFC 792).
        let ports: *mut Udp = at(ctx, transport_offset)?;
        let key = FlowKey {
            source: (*quoted).destination,
            destination: (*quoted).source,
            source_port: (*ports).destination,
            destination_port: (*ports).source,
            protocol: u32::from(protocol),
        };
        let packet = Packet::about(ethernet, ip, key, u16::from_be((*ip).total_length));
        Some(IcmpError { packet, icmp, quoted, ports, transport_offset })
    }
}

#[inline(always)]
fn to_backend(ctx: &XdpContext, error: &IcmpError, method: u8, number: u32) -> Result<(Reason, u32), Reason> {
    let Some(backend) = backends::get(number) else {
        return Err(Reason::NoBackend);
    };
    if method != Method::Nat as u8 {
        let action = forward::to_backend(ctx, &error.packet, method, backend)?;
        return Ok((Reason::IcmpError, action));
    }
    forward::check(&error.packet, backend)?;
    let (address, port) = (backend.address.v4(), backend.port);
    // SAFETY: `parse` compared every header with the end of the packet.
    unsafe {
        let old = (*error.quoted).source;
        forward::readdress(error.packet.ip, old, address, |ip| (*ip).destination = address);
        let changes = Changes { old, new: address, old_port: (*error.ports).source, new_port: port };
        (*error.quoted).source = address;
        (*error.ports).source = port;
        update_checksums(ctx, error, &changes);
    }
    Ok((Reason::IcmpError, transmit(ctx, &backend.next_hop)?))
}

/// About a packet of the client that a router on the way to the backend, or the backend, refused. Whoever it was, the
/// client knows the service only.
#[inline(always)]
fn to_client(ctx: &XdpContext, error: &IcmpError, value: &FlowValue) -> Result<(Reason, u32), Reason> {
    forward::check_ttl(&error.packet)?;
    // SAFETY: `parse` compared every header with the end of the packet.
    unsafe {
        let sender = (*error.packet.ip).source;
        forward::readdress(error.packet.ip, sender, value.address, |ip| (*ip).source = value.address);
        let changes = Changes {
            old: (*error.quoted).destination,
            new: value.address,
            old_port: (*error.ports).destination,
            new_port: value.port,
        };
        (*error.quoted).destination = value.address;
        (*error.ports).destination = value.port;
        update_checksums(ctx, error, &changes);
    }
    Ok((Reason::IcmpError, transmit(ctx, &value.return_hop)?))
}

/// One address and port of the quotation.
struct Changes {
    old: u32,
    new: u32,
    old_port: u16,
    new_port: u16,
}

impl Changes {
    #[inline(always)]
    fn of_transport(&self, checksum: u16) -> u16 {
        Update::new(checksum).u32(self.old, self.new).u16(self.old_port, self.new_port).finish()
    }
}

/// The quoted IP header's checksum, the quoted transport's where it is there, and the ICMP checksum over them all.
///
/// # Safety
/// The headers were compared with the end of the packet.
#[inline(always)]
unsafe fn update_checksums(ctx: &XdpContext, error: &IcmpError, changes: &Changes) {
    // SAFETY: by the caller, and by the comparison for the quoted TCP header.
    unsafe {
        let quoted = error.quoted;
        let old_header = (*quoted).checksum;
        (*quoted).checksum = Update::new(old_header).u32(changes.old, changes.new).finish();
        let mut sum = Update::new((*error.icmp).checksum)
            .u32(changes.old, changes.new)
            .u16(changes.old_port, changes.new_port)
            .u16(old_header, (*quoted).checksum);
        if error.packet.is_tcp() {
            let end = error.transport_offset + size_of::<Tcp>();
            if end <= size_of::<Ethernet>() + error.packet.ip_length as usize
                && let Some(tcp) = at::<Tcp>(ctx, error.transport_offset)
            {
                let old = (*tcp).checksum;
                (*tcp).checksum = changes.of_transport(old);
                sum = sum.u16(old, (*tcp).checksum);
            }
        } else if (*error.ports).checksum != 0 {
            let old = (*error.ports).checksum;
            let new = changes.of_transport(old);
            (*error.ports).checksum = if new == 0 { 0xffff } else { new };
            sum = sum.u16(old, (*error.ports).checksum);
        }
        (*error.icmp).checksum = sum.finish();
    }
}
