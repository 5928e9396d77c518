//! YAML text → a tree in which every value and every key knows its line and column.
//!
//! Duplicate keys are kept, so that each can be reported. A value reached through an alias is where the alias is.

#![deny(clippy::disallowed_methods)]

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, MessageFormatter, Spanned, UserMessageFormatter};

/// A value and its place, from 1, in characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// The number, and how it is written.
    Integer(i128, String),
    /// As written.
    Float(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Why a text is no YAML document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) message: String,
}

/// Reads one YAML document.
///
/// What a hostile text can cost is bounded: by depth, and by the number of values after aliases are replaced.
pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 250_000,
            // Many uses of one anchor are no attack; `max_nodes` bounds them.
            enforce_alias_anchor_ratio: false,
        },
        // The parser limits how many lines of comment it passes on in a row.
        emit_comments: false,
        // With this policy a map yields every entry, the duplicates included.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options)
        .map(|raw| node(raw, text))
        .map_err(|error| syntax_error(&error, text))
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let (line, column) = (raw.referenced.line(), raw.referenced.column());
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Integer(value) => {
            let written = source(&raw.defined, text).map_or_else(|| value.to_string(), str::to_owned);
            Value::Integer(value, written)
        }
        Raw::Float(value) => {
            Value::Float(source(&raw.defined, text).map_or_else(|| value.to_string(), str::to_owned))
        }
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (node(key, text), node(value, text))).collect())
        }
    };
    Node { line, column, value }
}

/// How a scalar is written.
fn source<'a>(at: &serde_yaml::Location, text: &'a str) -> Option<&'a str> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let length = usize::try_from(at.span().byte_len()?).ok()?;
    text.get(start..start.checked_add(length)?)
}

fn syntax_error(error: &Error, text: &str) -> SyntaxError {
    let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
    let message = explain(error.without_snippet());
    // A tab that indents continues the value above it, where the parser reports it.
    let (line, column) =
        if message.contains("tab") { indenting_tab(text, line) } else { None }.unwrap_or((line, column));
    let message = match quotes_missing(text, line) {
        Some(address) => {
            format!("{message}; an IPv6 address with a port is written in quotes: `\"{address}\"`")
        }
        None => message,
    };
    SyntaxError { line, column, message }
}

/// A bracketed IPv6 address with a port on this line that YAML takes for a list.
fn quotes_missing(text: &str, line: u64) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
    let word = |word: &str| {
        let (address, port) = word.trim_matches(['[', ']', ',']).split_once("]:")?;
        let port: String = port.chars().take_while(|c| c.is_ascii_digit() || "-*".contains(*c)).collect();
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (!port.is_empty() && port.len() <= 11).then(|| format!("[{address}]:{port}"))
    };
    line.split_whitespace().find_map(word)
}

/// The first tab that indents a line, from `line` on.
fn indenting_tab(text: &str, line: u64) -> Option<(u64, u64)> {
    (1..).zip(text.lines()).skip_while(|(number, _)| *number < line).find_map(|(number, line)| {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line[..indentation].find('\t')?;
        Some((number, tab as u64 + 1))
    })
}

fn explain(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => explain(error),
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a configuration is one document, so remove the `---`".into()
        }
        Error::UnknownAnchor { .. } => {
            "this alias has no anchor; write `&name` before the value that `*name` is to repeat, above it, or \
             quote a text that begins with `*`"
                .into()
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "this alias is inside the value that it repeats; write the value out".into()
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_large(),
        other => {
            let message = UserMessageFormatter.format_message(other);
            if message.contains("recursion limit") {
                return too_large();
            }
            // Some messages quote the value, however long.
            let short: String = message.chars().take(200).collect();
            format!("this is not YAML: {short}; {}", hint(&message))
        }
    }
}

fn too_large() -> String {
    "the configuration is too deep or too large here; use at most 32 levels, and 250000 values after aliases are \
     replaced"
        .into()
}

fn hint(message: &str) -> &'static str {
    if message.contains("tab") {
        "indent with spaces, not tabs"
    } else if message.contains("mapping values are not allowed") {
        "check the indentation, and quote a text that contains `: `"
    } else if message.contains("tag") {
        "remove the tag (the word that begins with `!`), or quote the text"
    } else {
        "check indentation, quotes and brackets here and on the line above"
    }
}

/// A value as the parser infers it; `Spanned` adds the place.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
