//! Converts image definitions in YAML to command lines.
//!
//! A file is a list of entries. Entries with the same `imagename` describe one image: lists are
//! appended, maps are merged, other values are replaced. An entry without `imagename` continues the
//! one before it.
//!
//! Source: diskimage-builder, `diskimage_builder.py`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::command::Command;
use super::property::{Becomes, Kind, PROPERTIES, Property};
use super::variables::Environment;
use crate::element::{nearest, shell_word};
use crate::plan::is_secret;

/// The name of an image without `imagename`.
const DEFAULT_NAME: &str = "image";

/// The key that names an image.
const IMAGE_NAME: &str = "imagename";

/// An error in a file of image definitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("expected a list of image definitions: {0}")]
    Yaml(String),
    #[error("entry {entry} has an unknown key `{key}`{}", nearest.map(|key| format!(": did you mean `{key}`?")).unwrap_or_default())]
    UnknownKey {
        /// Counted from 1.
        entry: usize,
        key: String,
        /// The most similar known key.
        nearest: Option<&'static str>,
    },
    #[error("entry {entry}, key `{key}`: expected {expected}, found `{found}`")]
    Value {
        /// Counted from 1.
        entry: usize,
        key: &'static str,
        /// A text for users.
        expected: String,
        /// The value as JSON.
        found: String,
    },
}

/// The command line that builds an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCommand {
    pub command: Command,
    /// Its arguments, without the program's name.
    pub words: Vec<String>,
    /// Variables to set for it.
    pub environment: Environment,
}

type Entry = Map<String, Value>;

/// Parses the texts of files, as if they were one file.
///
/// # Errors
/// [`DefinitionError`] with the number of the entry, counted over all files.
pub fn parse_definition<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<ImageCommand>, DefinitionError> {
    let mut entries: Vec<Entry> = Vec::new();
    for text in texts {
        entries.extend(list_in(text)?);
    }
    for (place, entry) in entries.iter_mut().enumerate() {
        entry.iter_mut().for_each(|(key, value)| read_switch(key, value));
        check(place + 1, entry)?;
    }
    Ok(merged(entries).iter().map(ImageCommand::new).collect())
}

fn list_in(text: &str) -> Result<Vec<Entry>, DefinitionError> {
    // With loose booleans, an image could not be named `y`. Python's YAML uses the last of
    // duplicate keys.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! { max_depth: crate::element::MAX_YAML_DEPTH },
    };
    let list: Option<_> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| DefinitionError::Yaml(error.to_string()))?;
    list.ok_or_else(|| DefinitionError::Yaml("it is empty".to_owned()))
}

/// Accepts the words of YAML 1.1 for true and false where a boolean is expected.
fn read_switch(key: &str, value: &mut Value) {
    let is_switch = Property::of(key).is_some_and(|property| property.kind == Kind::Switch);
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("yes" | "on") if is_switch => *value = Value::Bool(true),
        Some("no" | "off") if is_switch => *value = Value::Bool(false),
        _ => {}
    }
}

fn check(number: usize, entry: &Entry) -> Result<(), DefinitionError> {
    for (key, value) in entry {
        let Some(property) = Property::of(key) else {
            let nearest = nearest(key, PROPERTIES.iter().map(|property| property.key));
            let nearest = nearest.and_then(Property::of).map(|property| property.key);
            return Err(DefinitionError::UnknownKey { entry: number, key: key.clone(), nearest });
        };
        if !is_valid(property.kind, value) {
            return Err(DefinitionError::Value {
                entry: number,
                key: property.key,
                expected: property.kind.expectation(),
                found: value.to_string(),
            });
        }
    }
    Ok(())
}

fn is_valid(kind: Kind, value: &Value) -> bool {
    let is_choice =
        |value: &Value, choices: &[&str]| value.as_str().is_some_and(|text| choices.contains(&text));
    let each = |valid: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(valid));
    match kind {
        Kind::Text => value.is_string(),
        Kind::Choice(choices) => is_choice(value, choices),
        Kind::Switch => value.is_boolean(),
        Kind::Level(most) => value.as_u64().is_some_and(|level| level <= most),
        // JSON Schema's integers include 2.0, which diskimage-builder passes on unchanged.
        Kind::Number => value.as_f64().is_some_and(|number| number >= 1.0 && number.fract() == 0.0),
        Kind::List => each(&Value::is_string),
        Kind::ChoiceList(choices) => each(&|value| is_choice(value, choices)),
        Kind::Map => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
    }
}

/// Merges entries of the same name. Keeps the order in which the names first occur.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let mut images: Vec<(String, Entry)> = Vec::new();
    let mut name = DEFAULT_NAME.to_owned();
    for entry in entries {
        if let Some(given) = entry.get(IMAGE_NAME).and_then(Value::as_str) {
            name = given.to_owned();
        }
        match images.iter_mut().find(|(known, _)| *known == name) {
            Some((_, image)) => merge(image, entry),
            None => images.push((name.clone(), entry)),
        }
    }
    images.into_iter().map(|(_, image)| image).collect()
}

fn merge(image: &mut Entry, entry: Entry) {
    for (key, value) in entry {
        match (image.get_mut(&key), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (Some(Value::Object(map)), Value::Object(more)) => map.extend(more),
            (_, value) => drop(image.insert(key, value)),
        }
    }
}

impl ImageCommand {
    fn new(entry: &Entry) -> Self {
        let is_ramdisk = entry.get("ramdisk").and_then(Value::as_bool).unwrap_or(false);
        let given = PROPERTIES.iter().filter_map(|property| Some((property, entry.get(property.key)?)));
        Self {
            command: if is_ramdisk { Command::RamdiskImageCreate } else { Command::DiskImageCreate },
            words: given.flat_map(|(property, value)| words(property.becomes, value)).collect(),
            environment: entry.get("environment").map(texts).unwrap_or_default(),
        }
    }
}

fn words(becomes: Becomes, value: &Value) -> Vec<String> {
    let option = |option: &str| option.to_owned();
    match becomes {
        Becomes::Option(name) => match joined(value) {
            text if text.is_empty() => Vec::new(),
            text => vec![option(name), text],
        },
        Becomes::Switch(name) if value.as_bool() == Some(true) => vec![option(name)],
        Becomes::Repeated(name) => (0..value.as_u64().unwrap_or(0)).map(|_| option(name)).collect(),
        Becomes::Operands => items(value),
        Becomes::Switch(_) | Becomes::Variables | Becomes::Ramdisk => Vec::new(),
    }
}

fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => items(value).join(","),
        Value::Object(_) => {
            let pairs: Vec<_> = texts(value).iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(",")
        }
        other => other.to_string(),
    }
}

fn items(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A command line for a shell, with secrets redacted, because it is printed.
impl fmt::Display for ImageCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            let shown = if is_secret(name, value) { "***" } else { value };
            write!(f, "{name}={} ", shell_word(shown))?;
        }
        f.write_str(self.command.name())?;
        self.words.iter().try_for_each(|word| write!(f, " {}", shell_word(word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        let commands = parse_definition(texts.iter().copied());
        commands.unwrap_or_else(|error| panic!("{error}")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_becomes_its_argument() {
        let text = "
- arch: amd64
  imagename: everyoption
  types: [qcow2, raw]
  debug-trace: 2
  uncompressed: true
  clear: true
  logfile: ./logfile.log
  checksum: true
  image-size: 40
  image-extra-size: 1
  image-cache: ~/.cache/dib
  max-online-resize: 1000
  min-tmpfs: 7
  mkfs-journal-size: 1
  mkfs-options: -D
  no-tmpfs: true
  offline: true
  qemu-img-options: {size: '10', compat: '0.10'}
  ramdisk-element: dracut-ramdisk
  install-type: package
  root-label: root
  docker-target: everyoption:latest
  packages: [wget, tmux]
  skip-base: true
  elements: [centos, vm]
";
        let expected = "disk-image-create -o everyoption -a amd64 -t qcow2,raw -x -x -u -c --logfile ./logfile.log \
                        --checksum --image-size 40 --image-extra-size 1 --image-cache '~/.cache/dib' \
                        --max-online-resize 1000 --min-tmpfs 7 --mkfs-journal-size 1 --mkfs-options -D --no-tmpfs \
                        --offline --qemu-img-options compat=0.10,size=10 --root-label root \
                        --ramdisk-element dracut-ramdisk --install-type package \
                        --docker-target everyoption:latest -p wget,tmux -n centos vm";
        assert_eq!(lines(&[text]), [expected]);
    }

    #[test]
    fn empty_values_become_no_arguments() {
        let text =
            "- {imagename: '', types: [], debug-trace: 0, checksum: false, packages: [], elements: []}";
        assert_eq!(lines(&[text]), ["disk-image-create"]);
    }

    #[test]
    fn the_last_of_duplicate_keys_counts() {
        let text =
            "- {imagename: a, imagename: b, environment: {A: '1', A: '2'}, elements: [x], elements: [y]}";
        assert_eq!(lines(&[text]), ["A=2 disk-image-create -o b y"]);
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        assert_eq!(lines(&["- {image-size: 2.0, elements: [x]}"]), ["disk-image-create --image-size 2.0 x"]);
        for size in ["2.5", "0.0", "-1", "x"] {
            let text = format!("- {{image-size: {size}, elements: [x]}}");
            assert!(parse_definition([text.as_str()]).is_err(), "{size}");
        }
    }

    #[test]
    fn yaml_1_1_booleans_are_accepted_only_for_switches() {
        let text = "- {imagename: y, checksum: yes, skip-base: On, offline: No, environment: {A: n, B: yes}, elements: [on]}";
        assert_eq!(lines(&[text]), ["A=n B=yes disk-image-create -o y --checksum -n on"]);
        let anchors = "- &a {imagename: a, elements: [x], environment: &e {A: b}}\n\
                       - {<<: *a, imagename: b, environment: {<<: *e, C: d}}\n";
        let expected = ["A=b disk-image-create -o a x", "A=b C=d disk-image-create -o b x"];
        assert_eq!(lines(&[anchors]), expected);
    }

    #[test]
    fn two_images_are_two_commands() {
        let text = "
- imagename: centos-minimal
  elements: [centos, vm]
- imagename: ironic-python-agent
  ramdisk: true
  elements: [ironic-python-agent-ramdisk, extra-hardware]
";
        assert_eq!(
            lines(&[text]),
            [
                "disk-image-create -o centos-minimal centos vm",
                "ramdisk-image-create -o ironic-python-agent ironic-python-agent-ramdisk extra-hardware",
            ]
        );
    }

    #[test]
    fn entries_of_one_name_are_one_image_across_files() {
        let first = "
- imagename: centos-minimal
  elements: [centos, vm]
  environment: {foo: bar, zip: zap}
  debug-trace: 1
- elements: [devuser]
  logfile: centos-minimal.log
";
        let second = "
- environment: {foo: 'b z', one: two, MY_PASSWORD: hunter2}
- imagename: other
  elements: [x]
- imagename: centos-minimal
  debug-trace: 2
";
        assert_eq!(
            lines(&[first, second]),
            [
                "MY_PASSWORD='***' foo='b z' one=two zip=zap disk-image-create -o centos-minimal -x -x --logfile centos-minimal.log \
                 centos vm devuser",
                "disk-image-create -o other x",
            ]
        );
        assert_eq!(
            lines(&["- {elements: [a]}\n- {elements: [b]}\n- {imagename: image, elements: [c]}"]),
            ["disk-image-create -o image a b c"]
        );
    }

    #[test]
    fn an_invalid_definition_is_reported_with_its_entry() {
        let table = [
            (
                "- {imagename: a}\n- {elemnts: [a]}",
                "entry 2 has an unknown key `elemnts`: did you mean `elements`?",
            ),
            ("- {foo: 1}", "entry 1 has an unknown key `foo`"),
            ("- {image-size: 0}", "entry 1, key `image-size`: expected a whole number from 1, found `0`"),
            (
                "- {image-size: '5'}",
                "entry 1, key `image-size`: expected a whole number from 1, found `\"5\"`",
            ),
            (
                "- {debug-trace: 3}",
                "entry 1, key `debug-trace`: expected a whole number from 0 to 2, found `3`",
            ),
            (
                "- {install-type: repo}",
                "entry 1, key `install-type`: expected one of source, package, found `\"repo\"`",
            ),
            (
                "- {environment: {A: 1}}",
                "entry 1, key `environment`: expected a map of strings, found `{\"A\":1}`",
            ),
            ("- {imagename: 1}", "entry 1, key `imagename`: expected a string, found `1`"),
            ("- {skip-base: 'y'}", "entry 1, key `skip-base`: expected true or false, found `\"y\"`"),
            ("- {elements: a}", "entry 1, key `elements`: expected a list of strings, found `\"a\"`"),
            (
                "- {types: [vmdk]}",
                "entry 1, key `types`: expected a list of qcow2, tar, tgz, squashfs, vhd, docker, aci, raw, found \
                 `[\"vmdk\"]`",
            ),
        ];
        for (text, message) in table {
            assert_eq!(parse_definition([text]).unwrap_err().to_string(), message, "{text}");
        }
        for text in ["{imagename: a}", "- a", "- {", "5", "", "# nothing"] {
            let error = parse_definition([text]).unwrap_err().to_string();
            assert!(error.starts_with("expected a list of image definitions: "), "{text}: {error}");
        }
    }
}
