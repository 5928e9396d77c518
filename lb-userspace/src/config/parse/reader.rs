//! Walks the positioned tree and collects what is wrong with it.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::suggest;
use crate::config::source::ReadSecret;
use crate::config::yaml::{Node, Value};
use crate::config::{Host, Mistake};

/// Where a value is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) path: String,
}

/// A value of the tree and the way to it.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) node: &'a Node,
    path: String,
}

/// Proof that a mistake was recorded: whoever cannot return a value returns this.
#[derive(Debug)]
pub(super) struct Reported(());

pub(super) type Read<T> = Result<T, Reported>;

/// The keys that a mapping may have.
pub(super) struct Shape {
    /// What the mapping is, for a person.
    pub(super) what: &'static str,
    pub(super) keys: &'static [&'static str],
    /// Keys of the language that this version does not have.
    pub(super) later: &'static [&'static str],
    pub(super) example: &'static str,
}

pub(super) struct Reader<'h> {
    pub(super) host: &'h Host,
    pub(super) secrets: ReadSecret<'h>,
    mistakes: Vec<Mistake>,
}

impl<'h> Reader<'h> {
    pub(super) const fn new(host: &'h Host, secrets: ReadSecret<'h>) -> Self {
        Self { host, secrets, mistakes: Vec::new() }
    }

    pub(super) fn mistake(&mut self, place: &Place, message: impl Into<String>) -> Reported {
        let Place { line, column, path } = place.clone();
        self.mistakes.push(Mistake { line, column, path, message: message.into() });
        Reported(())
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// The entries of a mapping. Keys that do not belong there are reported, and the rest is read.
    pub(super) fn fields<'a>(&mut self, item: &Item<'a>, shape: &Shape) -> Read<Fields<'a>> {
        let Value::Map(entries) = &item.node.value else {
            let message = format!(
                "{} is not {}; write a mapping such as `{}`",
                describe(&item.node.value),
                shape.what,
                shape.example
            );
            return Err(self.mistake(&item.place(), message));
        };
        let mut found: BTreeMap<&str, (&Node, &Node)> = BTreeMap::new();
        let mut meant = Vec::new();
        let mut refused = false;
        for (key, value) in entries {
            let Value::Text(name) = &key.value else {
                let message = format!("{} is not a key; {}", describe(&key.value), shape.expected());
                self.mistake(&item.at(key), message);
                continue;
            };
            let place = Item { node: key, path: item.join(name) }.place();
            if let Some((first, _)) = found.get(name.as_str()) {
                let message =
                    format!("this key is there already, on line {}; remove one of the two", first.line);
                self.mistake(&place, message);
            } else if shape.keys.contains(&name.as_str()) {
                found.insert(name, (key, value));
            } else {
                self.mistake(&place, shape.refuse(name));
                meant.extend(shape.nearest(name));
                refused = true;
            }
        }
        let found = found.into_iter().map(|(name, (_, value))| (name, value)).collect();
        Ok(Fields { found, meant, refused, at: item.place(), what: shape.what })
    }

    /// The items of a list.
    pub(super) fn list<'a>(&mut self, item: &Item<'a>, example: &str) -> Read<Vec<Item<'a>>> {
        let Value::List(nodes) = &item.node.value else {
            let message =
                format!("{} is not a list; write one such as `{example}`", describe(&item.node.value));
            return Err(self.mistake(&item.place(), message));
        };
        Ok(item.children(nodes))
    }

    /// Reads every item, so that the mistakes of all are found.
    pub(super) fn each<'a, T>(
        &mut self,
        items: &[Item<'a>],
        mut read: impl FnMut(&mut Self, &Item<'a>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let all: Vec<Read<T>> = items.iter().map(|item| read(self, item)).collect();
        all.into_iter().collect()
    }

    /// The value of a key, if the key is there.
    pub(super) fn optional<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        read: impl FnOnce(&mut Self, &Item<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        fields.get(key).map(|item| read(self, &item)).transpose()
    }

    /// The value of a key that must be there.
    pub(super) fn required<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        example: &str,
        read: impl FnOnce(&mut Self, &Item<'a>) -> Read<T>,
    ) -> Read<T> {
        match fields.get(key) {
            Some(item) => read(self, &item),
            None if fields.mistyped(key) => Err(Reported(())),
            None => {
                let message = format!("`{key}` is missing in {}; write `{key}: {example}`", fields.what);
                Err(self.mistake(&fields.at, message))
            }
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    pub(super) fn place(&self) -> Place {
        Place { line: self.node.line, column: self.node.column, path: self.path.clone() }
    }

    /// The items of a list in this place; one value stands for a list of one.
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(nodes) => self.children(nodes),
            _ => vec![Self { node: self.node, path: self.path.clone() }],
        }
    }

    fn children(&self, nodes: &'a [Node]) -> Vec<Self> {
        let path = |index| format!("{}[{index}]", self.path);
        nodes.iter().enumerate().map(|(index, node)| Self { node, path: path(index) }).collect()
    }

    fn at(&self, node: &Node) -> Place {
        Place { line: node.line, column: node.column, path: self.path.clone() }
    }

    fn join(&self, key: &str) -> String {
        let key = suggest::shorten(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// The entries of a mapping, after unknown and duplicate keys are reported.
pub(super) struct Fields<'a> {
    found: BTreeMap<&'a str, &'a Node>,
    /// What unknown keys were taken for.
    meant: Vec<&'static str>,
    refused: bool,
    pub(super) at: Place,
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let (key, node) = self.found.get_key_value(key)?;
        let path =
            if self.at.path.is_empty() { (*key).to_owned() } else { format!("{}.{key}", self.at.path) };
        Some(Item { node, path })
    }

    /// An unknown key, reported already, may stand for whatever is missing.
    pub(super) fn refused(&self) -> Option<Reported> {
        self.refused.then_some(Reported(()))
    }

    /// The key is not there because it is misspelt, which is reported already.
    pub(super) fn mistyped(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }
}

impl Shape {
    fn nearest(&self, key: &str) -> Option<&'static str> {
        if self.later.contains(&key) { None } else { suggest::nearest(key, self.keys) }
    }

    /// Why `key` may not be here.
    fn refuse(&self, key: &str) -> String {
        if self.later.contains(&key) {
            format!("`{key}` is not available in this version; {}", self.expected())
        } else if let Some(near) = self.nearest(key) {
            format!("unknown key in {}; did you mean `{near}`?", self.what)
        } else {
            format!("unknown key in {}; {}", self.what, self.expected())
        }
    }

    fn expected(&self) -> String {
        match self.keys {
            [] => "there are no keys here".into(),
            keys => format!("the keys here are {}", suggest::list(keys)),
        }
    }
}

/// Where each name, address or number was used first, to find the second use.
pub(super) struct Unique<K> {
    seen: BTreeMap<K, u64>,
}

impl<K> Default for Unique<K> {
    fn default() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

impl<K: Ord> Unique<K> {
    /// Reports a key that is taken; `message` is told the line of its first use.
    pub(super) fn claim<M: Display>(
        &mut self,
        reader: &mut Reader<'_>,
        place: &Place,
        key: K,
        message: impl FnOnce(u64) -> M,
    ) -> Read<()> {
        if let Some(line) = self.seen.get(&key) {
            let message = message(*line).to_string();
            return Err(reader.mistake(place, message));
        }
        self.seen.insert(key, place.line);
        Ok(())
    }

    pub(super) fn line_of(&self, key: &K) -> Option<u64> {
        self.seen.get(key).copied()
    }
}

/// A value as it appears in a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "an empty value".into(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(_, written) | Value::Float(written) => suggest::shorten(written),
        Value::Text(text) if text.is_empty() => "an empty text".into(),
        Value::Text(text) => format!("`{}`", suggest::shorten(text)),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
    }
}
