//! Values that need more checks than their type makes while they are parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Parses a list without duplicates.
pub(super) fn unique_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Ord + Clone + fmt::Display,
{
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Ord + Clone + fmt::Display> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let (mut list, mut seen) = (Vec::new(), BTreeSet::new());
            while let Some(item) = items.next_element::<T>()? {
                if !seen.insert(item.clone()) {
                    return Err(A::Error::custom(format!("`{item}` is listed twice")));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List(PhantomData))
}

/// Parses a list of packages. Rejects names that a package manager could interpret as something
/// else.
pub(super) fn packages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let packages: Vec<String> = unique_list(deserializer)?;
    let is_name = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !name.contains(char::is_whitespace)
    };
    match packages.iter().find(|name| !is_name(name)) {
        Some(name) => Err(D::Error::custom(format!("`{name}` is not a valid package name"))),
        None => Ok(packages),
    }
}

/// Parses a program and its arguments.
pub(super) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    match words.first().is_some_and(String::is_empty) {
        true => Err(D::Error::custom("the program's name is empty")),
        false => Ok(words),
    }
}

/// Parses an absolute path in the image.
pub(super) fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let path = String::deserialize(deserializer)?;
    match path.starts_with('/') {
        true => Ok(Some(path)),
        false => Err(D::Error::custom(format!("`{path}` is not an absolute path"))),
    }
}

/// Parses a user of the image, optionally with a group.
pub(super) fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let user = String::deserialize(deserializer)?;
    match user.is_empty() || user.contains(char::is_whitespace) {
        true => Err(D::Error::custom(format!("`{user}` is not a valid user name"))),
        false => Ok(Some(user)),
    }
}

/// Parses environment variables: names that a shell accepts, and texts as values.
pub(super) fn environment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let variables = BTreeMap::<VariableName, VariableValue>::deserialize(deserializer)?;
    Ok(variables.into_iter().map(|(name, value)| (name.0, value.0)).collect())
}

/// Parses files for hooks: the name of each in one directory, and its path in the project.
pub(super) fn files<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, PathBuf>, D::Error> {
    let files = BTreeMap::<FileName, InputPath>::deserialize(deserializer)?;
    Ok(files.into_iter().map(|(name, path)| (name.0, path.0)).collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct FileName(String);

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // The name is joined to the directory of hooks: a name with slashes could lead out of it.
        match matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
            false => Ok(Self(name)),
            true => Err(D::Error::custom(format!(
                "`{}` in `files` is not a valid file name in `/tmp/in_target.d/files`: \
                 expected one name without `/` (directories are copied whole)",
                name.escape_debug()
            ))),
        }
    }
}

struct InputPath(PathBuf);

impl<'de> Deserialize<'de> for InputPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        // An empty path, joined to the project's directory, would be the whole project.
        match path.as_os_str().is_empty() {
            false => Ok(Self(path)),
            true => Err(D::Error::custom(
                "an empty path in `files`: expected a file or directory, relative to the project",
            )),
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct VariableName(String);

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        match starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            true => Ok(Self(name)),
            false => Err(D::Error::custom(format!(
                "`{name}` is not a valid variable name: expected letters, digits and `_`, not starting with a digit"
            ))),
        }
    }
}

struct VariableValue(String);

impl<'de> Deserialize<'de> for VariableValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = VariableValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string (variables are text: put quotes around the value)")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<VariableValue, E> {
                match value.contains('\0') {
                    false => Ok(VariableValue(value.to_owned())),
                    true => Err(E::custom("a variable's value cannot contain a NUL character")),
                }
            }
        }

        deserializer.deserialize_any(Text)
    }
}
