//! Generates the reference page of a JSON schema: one section for each table of TOML, and one row
//! for each key.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Returns the sections of `schema`. `top` is the heading of its top level.
pub(crate) fn sections(schema: &Value, top: &str) -> String {
    let mut page = Page { defs: &schema["$defs"], text: String::new() };
    page.section(top, &Table { path: Vec::new(), preface: "", schema });
    page.text
}

struct Page<'a> {
    defs: &'a Value,
    text: String,
}

/// A table with its own section.
struct Table<'a> {
    path: Vec<String>,
    /// The description at the place of use. It replaces the description of the table itself.
    preface: &'a str,
    schema: &'a Value,
}

impl<'a> Page<'a> {
    fn section(&mut self, heading: &str, table: &Table<'a>) {
        let schema = table.schema;
        let text = if table.preface.is_empty() { description(schema) } else { table.preface };
        self.push(&format!("## {heading}\n\n{text}\n"));
        let Some(properties) = schema["properties"].as_object() else { return };
        self.push("\n| key | value | default | meaning |\n|---|---|---|---|\n");
        for (key, value) in required_first(schema, properties) {
            self.row(key, value, is_required(schema, key));
        }
        self.push("\n");
        properties.iter().for_each(|(key, value)| self.choices(key, value));
        for (key, value) in properties {
            for below in self.tables(&table.path, key, value) {
                self.section(&format!("`[{}]`", below.path.join(".")), &below);
            }
        }
    }

    fn row(&mut self, key: &str, value: &'a Value, required: bool) {
        let default = if required { "required".to_owned() } else { default(&value["default"]) };
        let (kind, meaning) = (self.kind(value), description(value).replace('\n', " "));
        self.push(&format!("| `{key}` | {kind} | {default} | {meaning} |\n"));
    }

    /// Explains each possible word of the value of `key`.
    fn choices(&mut self, key: &str, value: &'a Value) {
        let schema = self.resolve(value);
        let (schema, subject) = match schema["type"] == "array" {
            true => (self.resolve(&schema["items"]), format!("An item of `{key}`")),
            false => (schema, format!("`{key}`")),
        };
        let words: Vec<_> = alternatives(schema).filter(|word| word["const"].is_string()).collect();
        if words.iter().all(|word| description(word).is_empty()) {
            return;
        }
        self.push(&format!("{subject} is one of\n\n"));
        for word in words {
            self.push(&format!("- `{}`: {}\n", text(&word["const"]), description(word).replace('\n', " ")));
        }
        self.push("\n");
    }

    /// Returns the tables below `key`: a single one, one for each name, or one for each
    /// alternative.
    fn tables(&self, path: &[String], key: &str, value: &'a Value) -> Vec<Table<'a>> {
        let table = |name: &[&str], preface, schema| {
            let path = path.iter().map(String::as_str).chain([key]).chain(name.iter().copied());
            Table { path: path.map(str::to_owned).collect(), preface, schema }
        };
        let schema = self.resolve(value);
        if is_table(schema) {
            return vec![table(&[], "", schema)];
        }
        let named = self.resolve(named(schema));
        if is_table(named) {
            return vec![table(&["NAME"], "", named)];
        }
        let variants = variants(schema);
        variants.map(|(name, value, preface)| table(&[name], preface, self.resolve(value))).collect()
    }

    /// Returns the kind of a value in words.
    fn kind(&self, value: &'a Value) -> String {
        let schema = self.resolve(value);
        let of = named(schema);
        match kind_name(schema) {
            Some("array") => format!("list of {}", self.kind(&schema["items"])),
            Some("object") if is_table(self.resolve(of)) => "tables by name".to_owned(),
            Some("object") if of.is_object() => format!("table of {}", self.kind(of)),
            Some("object") => "table".to_owned(),
            Some(kind) => kind.to_owned(),
            None => self.kind_of_alternatives(schema),
        }
    }

    fn kind_of_alternatives(&self, schema: &'a Value) -> String {
        let names: Vec<_> = variants(schema).map(|(name, ..)| format!("`{name}`")).collect();
        if !names.is_empty() {
            return format!("one table of {}", names.join(", "));
        }
        let mut kinds: Vec<String> = Vec::new();
        for alternative in alternatives(schema) {
            let kind = match alternative["const"].as_str() {
                Some(word) => format!("`\"{word}\"`"),
                None => self.kind(alternative),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(" or ")
    }

    /// Follows references, and ignores the alternative null, which TOML does not have.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return self.resolve(&self.defs[name]);
        }
        let mut some = alternatives(schema).filter(|alternative| alternative["type"] != "null");
        match (some.next(), some.next()) {
            (Some(only), None) if schema["anyOf"].is_array() => self.resolve(only),
            _ => schema,
        }
    }

    fn push(&mut self, text: &str) {
        self.text.write_str(text).expect("a string takes any text");
    }
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten()
}

/// Returns the alternatives that are a table with one key: the key, its value and its description.
fn variants(schema: &Value) -> impl Iterator<Item = (&str, &Value, &str)> {
    alternatives(schema).filter_map(|variant| {
        let (name, value) = variant["properties"].as_object()?.iter().next()?;
        Some((name.as_str(), value, description(variant)))
    })
}

/// Returns the schema of the values of a table with arbitrary keys, or with keys of a pattern.
fn named(schema: &Value) -> &Value {
    let by_pattern = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
    by_pattern.unwrap_or(&schema["additionalProperties"])
}

fn is_table(schema: &Value) -> bool {
    schema["properties"].is_object()
}

/// Returns the JSON type, without null.
fn kind_name(schema: &Value) -> Option<&str> {
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.as_slice(),
        kind => std::slice::from_ref(kind),
    };
    kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
}

fn required_first<'a>(schema: &Value, properties: &'a Map<String, Value>) -> Vec<(&'a String, &'a Value)> {
    let mut rows: Vec<_> = properties.iter().collect();
    rows.sort_by_key(|(key, _)| !is_required(schema, key));
    rows
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key))
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// Returns a default as TOML. Empty for a missing default, and for a table, whose keys have their
/// own.
fn default(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Object(_) => String::new(),
        other => format!("`{other}`"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
