//! `check` of a service.

use super::pace::Pace;
use super::reader::{Fields, Item, Read, Reader, Shape};
use super::suggest;
use super::values::Choice;
use crate::config::model::{Check, CheckKind};
use crate::config::yaml::Value;

const CHECK: Shape = Shape {
    what: "a check",
    keys: &["tcp", "http", "every", "timeout", "rise", "fall"],
    later: LATER,
    example: "{ tcp: {}, every: 2s }",
};

const LATER: &[&str] = &["mysql", "https", "tls", "dns", "script"];

const TCP: Shape = Shape { what: "a TCP check", keys: &["port"], later: &[], example: "{ port: 80 }" };

const HTTP: Shape = Shape {
    what: "an HTTP check",
    keys: &["path", "status", "host", "port"],
    later: &[],
    example: "{ path: /healthz, status: 200 }",
};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp,
    Http,
}

const KIND: Choice<Kind> = Choice {
    what: "a check",
    words: &[("tcp", Kind::Tcp), ("http", Kind::Http)],
    instead: &[],
    later: LATER,
};

const DEFAULT_PATH: &str = "/";
const DEFAULT_STATUS: u16 = 200;

pub(super) fn check(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Check> {
    if let Value::Text(_) = item.node.value {
        let kind = match reader.choice(item, &KIND)? {
            Kind::Tcp => CheckKind::Tcp,
            Kind::Http => CheckKind::Http { path: DEFAULT_PATH.into(), status: DEFAULT_STATUS, host: None },
        };
        let Pace { every, timeout, rise, fall } = Pace::DEFAULT;
        return Ok(Check { kind, port: None, every, timeout, rise, fall });
    }
    let fields = reader.fields(item, &CHECK)?;
    let kind = kind(reader, &fields);
    let pace = Pace::read(reader, &fields, "probe");
    let ((kind, port), Pace { every, timeout, rise, fall }) = (kind?, pace?);
    Ok(Check { kind, port, every, timeout, rise, fall })
}

/// The kind of a check, and its port if one is written.
type Probe = (CheckKind, Option<u16>);

fn kind(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<Probe> {
    let tcp = reader.optional(fields, "tcp", tcp);
    let http = reader.optional(fields, "http", http);
    if fields.get("tcp").is_some() && fields.get("http").is_some() {
        return Err(
            reader.mistake(&fields.at, "both `tcp` and `http`; keep one, `http` includes the connection")
        );
    }
    match tcp?.or(http?) {
        Some(probe) => Ok(probe),
        None => Err(fields.refused().unwrap_or_else(|| {
            reader.mistake(&fields.at, "the check does not say how; add `tcp: {}` or `http: {}`")
        })),
    }
}

fn tcp(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Probe> {
    if item.node.value == Value::Null {
        return Ok((CheckKind::Tcp, None));
    }
    let fields = reader.fields(item, &TCP)?;
    Ok((CheckKind::Tcp, reader.optional(&fields, "port", port)?))
}

fn http(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Probe> {
    if item.node.value == Value::Null {
        let kind = CheckKind::Http { path: DEFAULT_PATH.into(), status: DEFAULT_STATUS, host: None };
        return Ok((kind, None));
    }
    let fields = reader.fields(item, &HTTP)?;
    let path = reader.optional(&fields, "path", path);
    let status = reader.optional(&fields, "status", |reader, item| {
        reader.integer(item, "the status of an HTTP answer", 200..=599)
    });
    let host = reader.optional(&fields, "host", host);
    let port = reader.optional(&fields, "port", port);
    let kind = CheckKind::Http {
        path: path?.unwrap_or_else(|| DEFAULT_PATH.into()),
        status: status?.unwrap_or(DEFAULT_STATUS),
        host: host?,
    };
    Ok((kind, port?))
}

fn port(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<u16> {
    reader.integer(item, "a port", 1..=u16::MAX)
}

/// RFC 9112 section 3.2.1, origin form.
fn path(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<String> {
    let path = reader.text(item, "a path", "/healthz")?;
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Ok(path.to_owned());
    }
    let message = format!(
        "`{}` is not the path of a request; write one that begins with `/`, other characters than printable ASCII as \
         `%20`, such as `/healthz`",
        suggest::shorten(path)
    );
    Err(reader.mistake(&item.place(), message))
}

/// RFC 9110 section 7.2: host name or address, and a port.
fn host(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<String> {
    let host = reader.text(item, "a host name", "www.example.com")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    if host.len() <= 255 && host.bytes().all(allowed) {
        return Ok(host.to_owned());
    }
    let message = format!(
        "`{}` is not a host name; write the value of the `Host` header, such as `www.example.com`",
        suggest::shorten(host)
    );
    Err(reader.mistake(&item.place(), message))
}
