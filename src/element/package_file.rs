//! The format of `package-installs.yaml`: packages, each with nothing, a map of keys, or a list of
//! such maps.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Phase;
use super::document::Entries;
use super::nearest::not_misspelled;
use super::package_rule::{Condition, PACKAGE_PHASES, PackageAction, Rule};

/// Packages in the order of the file.
pub(super) struct PackageFile(pub(super) Vec<(String, Rules)>);

impl<'de> Deserialize<'de> for PackageFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = PackageFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of packages")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PackageFile, A::Error> {
                let Entries(list) = Entries::deserialize(MapAccessDeserializer::new(map))?;
                // Package managers would take it for an option.
                match list.iter().find(|(name, _)| name.starts_with('-')) {
                    Some((name, _)) => {
                        Err(A::Error::custom(format!("`{name}` is not the name of a package")))
                    }
                    None => Ok(PackageFile(list)),
                }
            }

            /// A file that contains only comments.
            fn visit_unit<E>(self) -> Result<PackageFile, E> {
                Ok(PackageFile(Vec::new()))
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// The keys that a rule can have.
const KEYS: [&str; 8] =
    ["phase", "installtype", "uninstall", "build-only", "arch", "not-arch", "dib_python_version", "when"];

/// A rule while it is parsed. Errors are raised at each key, so that they have a line and a column.
#[derive(Default)]
struct RuleReader {
    phase: Option<Phase>,
    uninstall: bool,
    build_only: bool,
    architectures: Option<Condition>,
    /// The conditions by key. If a key occurs twice, the last value counts.
    conditions: Vec<(String, Vec<Condition>)>,
}

impl RuleReader {
    fn read<'de, A: MapAccess<'de>>(mut self, mut map: A) -> Result<Rule, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if KEYS.contains(&key.as_str()) {
                self.take(&key, map.next_value::<Texts>()?).map_err(A::Error::custom)?;
            } else {
                not_misspelled(&key, KEYS).map_err(A::Error::custom)?;
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.rule())
    }

    /// The values of `uninstall` and `build-only` have no meaning: diskimage-builder checks only
    /// that the keys exist.
    fn take(&mut self, key: &str, values: Texts) -> Result<(), String> {
        match key {
            "uninstall" => self.uninstall = true,
            "build-only" => self.build_only = true,
            "when" => {
                let conditions = values.0.into_iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
                self.only_if(key, conditions);
            }
            key => {
                if let Some(value) = one(key, values)? {
                    self.take_one(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn take_one(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "phase" => self.phase = Some(phase(&value)?),
            "installtype" => self.only_if(key, vec![Condition::InstallType(value)]),
            "dib_python_version" => self.only_if(key, vec![Condition::PythonVersion(value)]),
            "arch" => self.only_on(Condition::Architecture(items(&value)))?,
            _ => self.only_on(Condition::NotArchitecture(items(&value)))?,
        }
        Ok(())
    }

    fn only_if(&mut self, key: &str, conditions: Vec<Condition>) {
        self.conditions.retain(|(earlier, _)| earlier != key);
        self.conditions.push((key.to_owned(), conditions));
    }

    fn only_on(&mut self, condition: Condition) -> Result<(), String> {
        // A duplicate key is no contradiction: the last value counts.
        let kind = std::mem::discriminant(&condition);
        match self.architectures.replace(condition) {
            Some(other) if std::mem::discriminant(&other) != kind => {
                Err("`arch` and `not-arch` exclude each other".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn rule(self) -> Rule {
        let action = match (self.build_only, self.uninstall) {
            (true, _) => PackageAction::BuildOnly,
            (false, true) => PackageAction::Uninstall,
            (false, false) => PackageAction::Install,
        };
        let conditions = self.conditions.into_iter().flat_map(|(_, conditions)| conditions);
        let conditions = self.architectures.into_iter().chain(conditions).collect();
        Rule { phase: self.phase.unwrap_or(Phase::Install), action, conditions }
    }
}

/// Returns the one value of a key; `None` if it is empty.
fn one(key: &str, values: Texts) -> Result<Option<String>, String> {
    match <[String; 1]>::try_from(values.0) {
        Ok([value]) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(values) if values.is_empty() => Ok(None),
        Err(_) => Err(format!("`{key}` is a list, expected one value")),
    }
}

/// Splits a list at commas. Does not trim its items, because diskimage-builder does not.
fn items(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn phase(dir: &str) -> Result<Phase, String> {
    let known = PACKAGE_PHASES.into_iter().find(|known| known.dir() == dir);
    known.ok_or_else(|| {
        format!("packages are installed in `pre-install.d`, `install.d` and `post-install.d`, not in `{dir}`")
    })
}

fn comparison(when: String) -> Result<Condition, String> {
    let end = when.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(when.len());
    let (variable, rest) = when.split_at(end);
    let (variable, rest) = (variable.to_owned(), rest.trim_start());
    // As in diskimage-builder, everything behind the operator is the value. A shell's syntax there
    // would make the condition false for ever.
    let shell = rest
        .trim_start_matches('!')
        .strip_prefix('=')
        .filter(|value| value.trim_start().starts_with(['=', '"', '\'']));
    if shell.is_some() {
        return Err(format!("`when: {when}`: expected one `=` or `!=`, and a value without quotes"));
    }
    let value = |rest: &str| rest.trim_start().to_owned();
    match (rest.strip_prefix('='), rest.strip_prefix("!=")) {
        (Some(rest), _) if end > 0 => Ok(Condition::Equal(variable, value(rest))),
        (_, Some(rest)) if end > 0 => Ok(Condition::NotEqual(variable, value(rest))),
        _ => Err(format!("`when: {when}` is not `VARIABLE = value` or `VARIABLE != value`")),
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of keys")
            }

            fn visit_unit<E>(self) -> Result<Rule, E> {
                Ok(RuleReader::default().rule())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                RuleReader::default().read(map)
            }
        }

        deserializer.deserialize_any(Keys)
    }
}

/// The rules of a package: nothing (one rule without keys), a map, or a list of maps.
pub(super) struct Rules(pub(super) Vec<Rule>);

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing, a map of keys, or a list of such maps")
            }

            fn visit_unit<E>(self) -> Result<Rules, E> {
                Ok(Rules(vec![RuleReader::default().rule()]))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rules, E> {
                match text {
                    "" => self.visit_unit(),
                    text => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rules, A::Error> {
                Ok(Rules(vec![RuleReader::default().read(map)?]))
            }

            /// An empty list means the same as no value.
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Rules, A::Error> {
                let mut rules = Vec::new();
                while let Some(rule) = items.next_element()? {
                    rules.push(rule);
                }
                if rules.is_empty() { self.visit_unit() } else { Ok(Rules(rules)) }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A scalar or a list of scalars, as texts.
#[derive(Default)]
struct Texts(Vec<String>);

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
