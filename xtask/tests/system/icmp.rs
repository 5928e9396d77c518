//! ICMP and ICMPv6 as clients see them: path MTU, unreachable, time exceeded, ping.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use xtask::testbed::clients::{Client as _, Connections, HttpClient};
use xtask::testbed::dual_stack::{Arms, DualStack, HTTP, Method, service};
use xtask::testbed::{Host, TestBed};

use crate::support::{counted, dual_stack};

/// What the client's host knows of the way to an address.
fn path_mtu(client: &Host, address: IpAddr) -> Result<Option<u16>> {
    let route = client.run(["ip", "route", "get", &address.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).map(|mtu| mtu.parse().context("an MTU that is none")).transpose()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_learns_what_fits_into_a_tunnel_with_a_smaller_mtu() -> Result<()> {
    let bed = dual_stack(Arms::Two)?;
    bed.set_inside_mtu(1400)?;
    for (method, header) in
        [(Method::IpIn4, 20), (Method::IpIn6, 40), (Method::GueOver4, 28), (Method::GueOver6, 48)]
    {
        for service in method.services(HTTP) {
            let what = || format!("{} to {service}", method.name());
            let upload = || {
                let client = HttpClient::new(service, "/upload", Connections::PerRequest);
                client.uploading(vec![b'x'; 200_000]).ask()
            };
            bed.client.enter(upload).with_context(what)?;
            let mtu = path_mtu(&bed.client, service.ip())?;
            ensure!(mtu == Some(1400 - header), "{}: the client was told {mtu:?}", what());
        }
    }
    ensure!(counted(&bed.node, "fragmentation_needed")? > 0, "none was counted");
    Ok(())
}

/// Sends a datagram and returns the error that comes back for it.
fn error_of_a_datagram(client: &Host, service: SocketAddr, hops: i32) -> Result<ErrorKind> {
    client.enter(|| {
        let socket = UdpSocket::bind(if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        // Errors that the sender need not give up for are told too: IP_RECVERR, ip(7).
        if service.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            setsockopt(&socket, sockopt::Ipv4Ttl, &hops)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            setsockopt(&socket, sockopt::Ipv6Ttl, &hops)?;
        }
        socket.connect(service)?;
        socket.send(b"is anybody there?")?;
        let error = socket.recv(&mut [0; 64]).err().context("somebody answered")?;
        Ok(error.kind())
    })
}

/// The services' port on which no server listens.
const CLOSED: u16 = 54;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_hears_that_no_server_listens_and_where_its_packet_ran_out_of_hops() -> Result<()> {
    let mut text = String::new();
    for method in [Method::Nat, Method::FullNat] {
        text += &service(method.name(), method, CLOSED, 1, "    protocol: udp\n")?;
        // Behind s1, which has to send them on.
        let far = service(&format!("{}-far", method.name()), method, CLOSED + 1, 1, "    protocol: udp\n")?;
        text += &far.replace("10.0.0.21", "10.9.0.1").replace("fd00::21", "fd09::1");
    }
    let bed = DualStack::build_with(TestBed::for_test()?, Arms::Two, 1, "  []\n")?;
    bed.servers[0].host.forward()?;
    for (network, gateway) in [("10.9.0.0/24", "10.0.0.21"), ("fd09::/64", "fd00::21")] {
        bed.node.host().add_route(network, gateway)?;
    }
    let mut bed = bed;
    bed.apply(&text)?;
    bed.node.wait_until_backends_are_up()?;
    for method in [Method::Nat, Method::FullNat] {
        for (port, hops, expected) in
            [(CLOSED, 64, ErrorKind::ConnectionRefused), (CLOSED + 1, 2, ErrorKind::HostUnreachable)]
        {
            for service in method.services(port) {
                let what = || format!("{} to {service}", method.name());
                let seen = error_of_a_datagram(&bed.client, service, hops).with_context(what)?;
                ensure!(seen == expected, "{}: {seen:?}", what());
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_ping_to_the_address_of_a_service_is_answered() -> Result<()> {
    let bed = dual_stack(Arms::Two)?;
    for address in Method::ALL.iter().flat_map(|method| method.addresses()) {
        let address = address.to_string();
        let said =
            bed.client.run(["ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-s", "1200", &address])?;
        ensure!(said.contains(" 0% packet loss"), "{said}");
    }
    let answered = counted(&bed.node, "echo")?;
    ensure!(answered == 3 * 2 * Method::ALL.len() as u64, "{answered} were answered by the program");
    Ok(())
}
