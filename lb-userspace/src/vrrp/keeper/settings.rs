//! Settings of macvlan interfaces with virtual MAC addresses. The kernel tells of no change of them.

use std::io;

use super::wanted::Family;
use crate::net::netlink::Answer;
use crate::net::sysctl;
use crate::vrrp::thing::ArpSetting;

#[derive(Debug, Clone, Copy)]
struct Setting {
    of: &'static str,
    key: &'static str,
    value: i32,
}

/// What such an interface receives has come for addresses that routes lead to by the interface below, mostly; it must have no
/// address of its own.
fn settings(family: Family) -> impl Iterator<Item = Setting> {
    let v4 = [("rp_filter", 0), ("accept_local", 1), (ArpSetting::Ignore.key(), ArpSetting::Ignore.value())];
    let v6 = [
        // IN6_ADDR_GEN_MODE_NONE.
        ("addr_gen_mode", 1),
        ("accept_dad", 0),
        ("accept_ra", 0),
        ("autoconf", 0),
        ("disable_ipv6", i32::from(family == Family::V4)),
    ];
    let of = |of| move |(key, value)| Setting { of, key, value };
    v4.into_iter().map(of("ipv4")).chain(v6.into_iter().map(of("ipv6")))
}

/// Whether the interface has all of them; one that is gone has.
pub(super) fn are_set(name: &str, family: Family) -> bool {
    settings(family).all(|setting| is_set(name, family, setting).unwrap_or(true)) || !exists(name)
}

/// Before it is up, and whenever somebody changed one.
///
/// # Errors
/// The first that cannot be set; the others are set. `ENODEV`: there is no such interface.
pub(super) fn set(name: &str, family: Family) -> Answer {
    let mut answer = Ok(());
    for setting in settings(family) {
        let Setting { of, key, value } = setting;
        if is_set(name, family, setting).unwrap_or(false) {
            continue;
        }
        if let Err(error) = sysctl::write(of, name, key, value) {
            if !exists(name) {
                return Err(io::Error::from_raw_os_error(libc::ENODEV));
            }
            let told =
                io::Error::new(error.kind(), format!("cannot set net.{of}.conf.{name}.{key}: {error}"));
            answer = answer.and(Err(told));
        }
    }
    answer
}

fn is_set(name: &str, family: Family, setting: Setting) -> io::Result<bool> {
    match sysctl::read(setting.of, name, setting.key) {
        Ok(value) => Ok(value == setting.value),
        // A host without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound && setting.of == "ipv6" => {
            Ok(family == Family::V4)
        }
        Err(error) => Err(error),
    }
}

fn exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// Whether the host checks at every interface that replies would leave by it: the kernel takes the larger of this and
/// the interface's own setting (ip-sysctl.rst).
pub(super) fn host_filters_strictly() -> bool {
    sysctl::read("ipv4", "all", "rp_filter").is_ok_and(|value| value == 1)
}
