//! The keys of a node, taken one by one. A key that is left over is an error.

use super::document::{Item, Value};
use super::fault::{Fault, Position, Problem};
use super::plugin::Plugin;
use crate::element::nearest;

/// A text of the file, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) at: Position,
    pub(super) text: String,
}

/// The keys of a map that are not taken yet.
pub(super) struct Fields<'a> {
    what: &'static str,
    at: Position,
    entries: Vec<(&'a Item, &'a Item)>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens the map of a `what`, such as `mkfs`. Nothing is an empty map.
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

    /// Takes a list of texts, empty where the key is not there.
    pub(super) fn words(&mut self, key: &'static str) -> Result<Vec<Word>, Fault> {
        let Some(item) = self.take(key) else { return Ok(Vec::new()) };
        let items = item.list(key)?.iter();
        items.map(|item| Ok(Word { at: item.at, text: item.text(key)?.to_owned() })).collect()
    }

    pub(super) fn missing(&self, key: &'static str) -> Fault {
        self.at.fault(Problem::Missing { plugin: self.what, key })
    }

    /// Reads and throws away a key that means nothing here.
    pub(super) fn skip(&mut self, key: &'static str) {
        self.take(key);
    }

    /// Takes the keys that are plugins: nodes that stand on this one.
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

    /// Fails if a key is left that nothing took: without what it asks for, such as encryption, the
    /// disk would still look right.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let Some((key, _)) = self.entries.first() else { return Ok(()) };
        let name = key.text("a key")?.to_owned();
        let nearest = nearest(&name, self.known.iter().copied()).map(str::to_owned);
        let known = self.known.join(", ");
        Err(key.at.fault(Problem::UnknownKey { what: self.what, name, nearest, known }))
    }
}
