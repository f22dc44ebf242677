//! Parses YAML into a tree with positions.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::fault::{Fault, Position, Problem};
use crate::element::MAX_YAML_DEPTH;

/// A value of the file, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A scalar as it is written. `8E00` is not parsed as a number, and `0700` not as an octal one.
    Text(String),
    List(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Nothing,
}

impl Item {
    /// Parses a YAML document.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            budget: serde_saphyr::budget! { max_depth: MAX_YAML_DEPTH },
        };
        let tree = serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options);
        tree.map(|tree| located(tree, text)).map_err(|error| {
            let at = error.location().map_or(Position::default(), |location| position(&location));
            let message = error.to_string();
            // The fault has the position already, and options of the parser mean nothing to the
            // user.
            let end = [" at line ", ", set "].iter().filter_map(|mark| message.find(mark)).min();
            at.fault(Problem::Syntax(message[..end.unwrap_or(message.len())].to_owned()))
        })
    }

    pub(super) fn text(&self, what: &'static str) -> Result<&str, Fault> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.unexpected(what, "a text")),
        }
    }

    pub(super) fn list(&self, what: &'static str) -> Result<&[Item], Fault> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ => Err(self.unexpected(what, "a list")),
        }
    }

    pub(super) fn map(&self, what: &'static str) -> Result<&[(Item, Item)], Fault> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.unexpected(what, "a map")),
        }
    }

    fn unexpected(&self, what: &'static str, expected: &'static str) -> Fault {
        let found = match &self.value {
            Value::Text(text) => format!("the text `{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Nothing => "nothing".to_owned(),
        };
        self.at.fault(Problem::Unexpected { what, expected, found })
    }
}

fn position(location: &Location) -> Position {
    Position { line: location.line() as usize, column: location.column() as usize }
}

fn located(tree: Spanned<Raw>, text: &str) -> Item {
    let at = position(&tree.referenced);
    let value = match tree.value {
        Raw::Text(text) => Value::Text(text),
        Raw::Plain => Value::Text(written(&tree.defined, text)),
        Raw::Nothing => Value::Nothing,
        Raw::List(items) => Value::List(items.into_iter().map(|item| located(item, text)).collect()),
        Raw::Map(entries) => Value::Map(last_of_each(
            entries.into_iter().map(|(key, value)| (located(key, text), located(value, text))),
        )),
    };
    Item { at, value }
}

/// Keeps the last of several entries with equal keys, at the position of the first, as Python's
/// YAML does.
fn last_of_each(entries: impl Iterator<Item = (Item, Item)>) -> Vec<(Item, Item)> {
    let mut last: Vec<(Item, Item)> = Vec::new();
    for entry in entries {
        match last.iter_mut().find(|(key, _)| key.value == entry.0.value) {
            Some(earlier) => *earlier = entry,
            None => last.push(entry),
        }
    }
    last
}

/// Returns the text of a scalar that the parser treats as a number or a boolean.
fn written(location: &Location, text: &str) -> String {
    let span = location.span();
    text.chars().skip(span.offset() as usize).take(span.len() as usize).collect()
}

/// A value as the parser returns it.
enum Raw {
    Text(String),
    /// A number or a boolean.
    Plain,
    Nothing,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of a block-device file")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_texts_as_written_with_positions() {
        let text =
            "# ä\ntype: 8E00\nsize: 0700\nflag: yes\nquoted: '0x83'\nempty:\nshared: &x 1.50\nagain: *x\n";
        let item = Item::parse(text).unwrap();
        let found: Vec<_> = item
            .map("test")
            .unwrap()
            .iter()
            .map(|(key, value)| match &value.value {
                Value::Text(text) => (key.at.line, value.at.column, text.as_str()),
                _ => (key.at.line, value.at.column, "-"),
            })
            .collect();
        let expected = [
            (2, 7, "8E00"),
            (3, 7, "0700"),
            (4, 7, "yes"),
            (5, 9, "0x83"),
            (6, 6, "-"),
            (7, 12, "1.50"),
            (8, 8, "1.50"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let item = Item::parse("a: 1\nb: 2\na: 3\n").unwrap();
        let texts: Vec<_> =
            item.map("test").unwrap().iter().map(|(_, value)| value.text("x").unwrap()).collect();
        assert_eq!(texts, ["3", "2"]);
    }

    #[test]
    fn a_syntax_error_has_its_position() {
        let fault = Item::parse("- a: [\n").unwrap_err();
        assert_eq!(fault.to_string(), "line 1, column 6: unclosed bracket '['");
    }
}
