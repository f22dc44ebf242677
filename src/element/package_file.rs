//! The shape of `package-installs.yaml`: packages, each with nothing, a map of keys, or a list of such maps.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor, value};

/// Packages in the order of the file.
pub(super) struct RawList(pub(super) Vec<(String, RawRules)>);

impl<'de> Deserialize<'de> for RawList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = RawList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of packages")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawList, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(RawList(list))
            }

            /// A file of comments alone.
            fn visit_unit<E>(self) -> Result<RawList, E> {
                Ok(RawList(Vec::new()))
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// One rule of a package, by key.
#[derive(Default)]
pub(super) struct RawRule(pub(super) BTreeMap<String, Texts>);

/// The rules of a package: nothing (one rule without keys), a map, or a list of maps.
pub(super) struct RawRules(pub(super) Vec<RawRule>);

impl<'de> Deserialize<'de> for RawRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rules;

        impl<'de> Visitor<'de> for Rules {
            type Value = RawRules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing, a map of keys, or a list of such maps")
            }

            fn visit_unit<E>(self) -> Result<RawRules, E> {
                Ok(RawRules(vec![RawRule::default()]))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawRules, E> {
                match text {
                    "" => self.visit_unit(),
                    text => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawRules, A::Error> {
                let rule = BTreeMap::deserialize(value::MapAccessDeserializer::new(map))?;
                Ok(RawRules(vec![RawRule(rule)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawRules, A::Error> {
                let mut rules = Vec::new();
                while let Some(rule) = items.next_element()? {
                    rules.push(RawRule(rule));
                }
                Ok(RawRules(rules))
            }
        }

        deserializer.deserialize_any(Rules)
    }
}

/// A scalar or a list of scalars, as texts.
#[derive(Default)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalars;

        impl<'de> Visitor<'de> for Scalars {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a truth value, or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Texts, E> {
                Ok(Texts(vec![truth.to_string()]))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Texts, E> {
                Ok(Texts(vec![number.to_string()]))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Texts, E> {
                Ok(Texts(vec![number.to_string()]))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Texts, E> {
                Ok(Texts(vec![number.to_string()]))
            }

            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(Texts(item)) = items.next_element()? {
                    texts.extend(item);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(Scalars)
    }
}
