//! Routing rules that Evenkeel adds, as routing netlink has them.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use serde::{Deserialize, Serialize};

use super::address::PROTOCOL;
use super::netlink::Request;

/// Looks a table up for what comes from and goes to networks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub v6: bool,
    /// Networks and their lengths; their other bits are 0.
    pub from: Option<(IpAddr, u8)>,
    pub to: Option<(IpAddr, u8)>,
    pub table: u32,
    pub priority: u32,
}

/// Adds a rule; fails when there is the same already.
#[must_use]
pub fn add(rule: &Rule) -> Request {
    Request { message: Message::NewRule(message(rule)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

#[must_use]
pub fn remove(rule: &Rule) -> Request {
    Request { message: Message::DelRule(message(rule)), flags: 0 }
}

/// All rules of a family.
#[must_use]
pub fn all(family: AddressFamily) -> Message {
    let mut message = RuleMessage::default();
    message.header.family = family;
    Message::GetRule(message)
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    if let Some((from, length)) = rule.from {
        message.header.src_len = length;
        message.attributes.push(RuleAttribute::Source(from));
    }
    if let Some((to, length)) = rule.to {
        message.header.dst_len = length;
        message.attributes.push(RuleAttribute::Destination(to));
    }
    message
}

/// `None` for a rule that is not Evenkeel's.
#[must_use]
pub fn parse(message: &RuleMessage) -> Option<Rule> {
    let v6 = match message.header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let mut rule = Rule { v6, from: None, to: None, table: message.header.table.into(), priority: 0 };
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(from) => rule.from = Some((*from, message.header.src_len)),
            RuleAttribute::Destination(to) => rule.to = Some((*to, message.header.dst_len)),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)) => ours = true,
            _ => {}
        }
    }
    ours.then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_added_is_read_back_the_same() {
        let from = Some(("203.0.113.10".parse().unwrap(), 32));
        let to = Some(("2001:db8::".parse().unwrap(), 32));
        let rows = [
            Rule { v6: false, from, to: None, table: 100, priority: 1000 },
            Rule { v6: true, from: None, to, table: 100_000, priority: 1 },
        ];
        for rule in rows {
            assert_eq!(parse(&message(&rule)), Some(rule));
        }
        assert_eq!(parse(&RuleMessage::default()), None);
    }
}
