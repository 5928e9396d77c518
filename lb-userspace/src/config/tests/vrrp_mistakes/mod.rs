//! What an instance may not say, and what is said about it.

mod addresses;
mod instance;
mod programs;

use std::fmt::Write;

use super::one;

/// The one mistake of an instance with these keys besides name, interface and VRID, without its position.
fn vrrp(keys: &str) -> String {
    let text = format!("vrrp: [{{ name: v, interface: eth0, vrid: 1, {keys} }}]\n");
    let said = one(&text);
    said.split_once(": vrrp[0]")
        .map_or_else(|| said.clone(), |(_, said)| said.trim_start_matches('.').to_owned())
}

/// Every row of a table at once: what is written after `before`, and what is said.
fn each(before: &str, rows: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (written, expected) in rows {
        let said = vrrp(&format!("{before}{written}"));
        if said != *expected {
            writeln!(wrong, "{written}\n  said     {said}\n  expected {expected}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const V4: &str = "addresses: [192.0.2.1/24], ";
