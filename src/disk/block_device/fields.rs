//! Reads the keys of a node one by one. Unread keys are errors.

use super::document::{Item, Value};
use super::fault::{Fault, Position, Problem};
use super::plugin::Plugin;
use crate::element::nearest;

/// A text of the file, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) at: Position,
    pub(super) text: String,
}

/// The unread keys of a map.
pub(super) struct Fields<'a> {
    what: &'static str,
    at: Position,
    entries: Vec<(&'a Item, &'a Item)>,
    /// All keys that were requested.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens the map of a `what`, such as `mkfs`. A missing value is an empty map.
    pub(super) fn open(what: &'static str, item: &'a Item) -> Result<Self, Fault> {
        let entries = match &item.value {
            Value::Nothing => &[],
            _ => item.map(what)?,
        };
        let entries = entries.iter().map(|(key, value)| (key, value)).collect();
        Ok(Self { what, at: item.at, entries, known: Vec::new() })
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Item> {
        self.known.push(key);
        let has = |item: &Item| matches!(&item.value, Value::Text(text) if text == key);
        let place = self.entries.iter().position(|(name, _)| has(name))?;
        Some(self.entries.remove(place).1)
    }

    pub(super) fn optional(&mut self, key: &'static str) -> Result<Option<Word>, Fault> {
        let word = |item: &Item| Ok(Word { at: item.at, text: item.text(key)?.to_owned() });
        self.take(key).map(word).transpose()
    }

    pub(super) fn needed(&mut self, key: &'static str) -> Result<Word, Fault> {
        let missing = self.missing(key);
        self.optional(key)?.ok_or(missing)
    }

    pub(super) fn items(&mut self, key: &'static str) -> Result<&'a [Item], Fault> {
        let missing = self.missing(key);
        self.take(key).ok_or(missing)?.list(key)
    }

    /// Reads a list of texts; empty if the key is missing.
    pub(super) fn words(&mut self, key: &'static str) -> Result<Vec<Word>, Fault> {
        let Some(item) = self.take(key) else { return Ok(Vec::new()) };
        let items = item.list(key)?.iter();
        items.map(|item| Ok(Word { at: item.at, text: item.text(key)?.to_owned() })).collect()
    }

    pub(super) fn missing(&self, key: &'static str) -> Fault {
        self.at.fault(Problem::Missing { plugin: self.what, key })
    }

    /// Ignores a key that has no meaning for plywood.
    pub(super) fn skip(&mut self, key: &'static str) {
        self.take(key);
    }

    /// Reads the keys that are plugins: nodes with this node as their base.
    pub(super) fn nested(&mut self) -> Vec<(Plugin, &'a Item)> {
        let plugin = |key: &Item| match &key.value {
            Value::Text(text) => Plugin::of(text),
            _ => None,
        };
        let nested = self.entries.iter().filter_map(|(key, value)| Some((plugin(key)?, *value))).collect();
        self.entries.retain(|(key, _)| plugin(key).is_none());
        self.known.extend(Plugin::ALL.map(Plugin::name));
        nested
    }

    /// Fails if a key was not read. Without the feature that it requests, such as encryption, the
    /// disk would still seem correct.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let Some((key, _)) = self.entries.first() else { return Ok(()) };
        let name = key.text("a key")?.to_owned();
        let nearest = nearest(&name, self.known.iter().copied()).map(str::to_owned);
        let known = self.known.join(", ");
        Err(key.at.fault(Problem::UnknownKey { what: self.what, name, nearest, known }))
    }
}
