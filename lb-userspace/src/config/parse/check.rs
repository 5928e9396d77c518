//! `check` of a service.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Fields, Item, Read, Reader, Shape};
use super::suggest;
use super::values::{Choice, written};
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

const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const DEFAULT_EVERY: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
const MAX_IN_A_ROW: u32 = 100;
const DEFAULT_PATH: &str = "/";
const DEFAULT_STATUS: u16 = 200;

pub(super) fn check(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Check> {
    if let Value::Text(_) = item.node.value {
        let kind = match reader.choice(item, &KIND)? {
            Kind::Tcp => CheckKind::Tcp,
            Kind::Http => CheckKind::Http { path: DEFAULT_PATH.into(), status: DEFAULT_STATUS, host: None },
        };
        return Ok(Check {
            kind,
            port: None,
            every: DEFAULT_EVERY,
            timeout: DEFAULT_TIMEOUT,
            rise: DEFAULT_RISE,
            fall: DEFAULT_FALL,
        });
    }
    let fields = reader.fields(item, &CHECK)?;
    let kind = kind(reader, &fields);
    let every = reader.optional(&fields, "every", |reader, item| reader.duration(item, EVERY, "2s"));
    let timeout = timeout(reader, &fields, every.as_ref().ok().map(|every| every.unwrap_or(DEFAULT_EVERY)));
    let rise = reader.optional(&fields, "rise", in_a_row);
    let fall = reader.optional(&fields, "fall", in_a_row);
    let (kind, port) = kind?;
    Ok(Check {
        kind,
        port,
        every: every?.unwrap_or(DEFAULT_EVERY),
        timeout: timeout?,
        rise: rise?.unwrap_or(DEFAULT_RISE),
        fall: fall?.unwrap_or(DEFAULT_FALL),
    })
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

/// At most `every`, so that probes of one backend never overlap. `every` is `None` when it is wrong.
fn timeout(reader: &mut Reader<'_>, fields: &Fields<'_>, every: Option<Duration>) -> Read<Duration> {
    let Some(item) = fields.get("timeout") else {
        return Ok(every.map_or(DEFAULT_TIMEOUT, |every| DEFAULT_TIMEOUT.min(every)));
    };
    let timeout = reader.duration(&item, TIMEOUT, "1s")?;
    let Some(every) = every.filter(|every| timeout > *every) else { return Ok(timeout) };
    let message = format!(
        "{} is longer than `every`, {}; a probe must end before the next begins, so write at most {1}, or a longer \
         `every`",
        written(timeout),
        written(every)
    );
    Err(reader.mistake(&item.place(), message))
}

fn in_a_row(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<u32> {
    reader.integer(item, "a number of probes in a row", 1..=MAX_IN_A_ROW)
}
