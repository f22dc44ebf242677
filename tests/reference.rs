//! Checks the reference pages and the published schemas against the types that they describe, and
//! the pages of the book against each other.
//!
//! The reference pages are generated from the doc comments of `image` and `distro`. `make docs`
//! writes them. These tests check that they are up to date.

#[path = "reference/book.rs"]
mod book;
#[path = "reference/commands.rs"]
mod commands;
#[path = "reference/markdown.rs"]
mod markdown;
#[path = "reference/messages.rs"]
mod messages;
#[path = "common/page.rs"]
mod page;

use std::fs;
use std::path::{Path, PathBuf};

use plywood::build::{BuildManifest, ExplainDocument, LayersDocument, PlanDocument};
use plywood::distro::BaseDefinition;
use plywood::host::DoctorDocument;
use plywood::image::Project;
use plywood::port::Event;
use plywood::store::{ImagesDocument, RemovedDocument, StepsDocument};
use serde_json::Value;

use page::Page;

/// Set by `make docs`.
const UPDATE: &str = "PLYWOOD_UPDATE_DOCS";

/// The text above this line in a page is written by hand.
const MARK: &str = "<!-- Below: made from the doc comments of the types, by `make docs`. -->\n";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares the file `path` with the expected text, or writes it.
fn hold(path: &str, expected: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::write(file(path), expected).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(read(path) == expected, "{path} is stale: run `make docs`");
}

fn hold_page(path: &str, sections: &str) {
    let page = read(path);
    let (by_hand, _) = page.split_once(MARK).unwrap_or_else(|| panic!("{path} has no line {MARK}"));
    hold(path, &format!("{by_hand}{MARK}\n{}", sections.trim_start()));
}

#[test]
fn the_page_of_commands_is_up_to_date() {
    hold_page("docs/commands.md", &commands::sections(&plywood::cli::command_line()));
}

fn hold_schema(path: &str, schema: &Value) {
    hold(path, &format!("{schema:#}\n"));
}

#[test]
fn the_reference_of_projects_is_up_to_date() {
    let schema = schemars::schema_for!(Project).to_value();
    hold_schema("docs/schema/plywood.schema.json", &schema);
    hold_page("docs/plywood-toml.md", &markdown::sections(&schema, "Top level"));
}

#[test]
fn the_reference_of_bases_is_up_to_date() {
    let schema = schemars::schema_for!(BaseDefinition).to_value();
    hold_schema("docs/schema/base.schema.json", &schema);
    hold_page("docs/bases.md", &markdown::sections(&schema, "Top level"));
}

#[test]
fn the_schemas_of_json_documents_are_up_to_date() {
    for (name, schema) in [
        ("manifest", schemars::schema_for!(BuildManifest)),
        ("plan", schemars::schema_for!(PlanDocument)),
        ("explain", schemars::schema_for!(ExplainDocument)),
        ("layers", schemars::schema_for!(LayersDocument)),
        ("event", schemars::schema_for!(Event<'static>)),
        ("doctor", schemars::schema_for!(DoctorDocument)),
        ("store-list", schemars::schema_for!(StepsDocument)),
        ("store-images", schemars::schema_for!(ImagesDocument)),
        ("store-rm", schemars::schema_for!(RemovedDocument)),
    ] {
        let schema = schema.to_value();
        hold_schema(&format!("docs/schema/{name}.schema.json"), &schema);
        let text = schema.to_string();
        let names: Vec<_> = text.split('"').collect();
        // All keys, and all words that name keys, are in kebab-case.
        let other = names.iter().find(|name| name.contains('_') && !name.contains(' '));
        assert_eq!(other, None, "{name}");
    }
}

#[test]
fn the_examples_of_the_pages_are_valid() {
    for path in book::pages() {
        let page = Page::read(&path);
        for block in page.blocks().iter().filter(|block| block.language == "toml") {
            let place = format!("{path}:{}", block.line);
            let error = match block.text.as_str() {
                // An example with one table of a base.
                text if text.starts_with("[source.") => toml::from_str::<toml::Table>(text).err(),
                text if path == "docs/bases.md" => toml::from_str::<BaseDefinition>(text).err(),
                text => toml::from_str::<Project>(text).err(),
            };
            assert!(error.is_none(), "{place}: {}", error.unwrap());
        }
    }
}

/// A small schema with every form of a value in definitions.
#[test]
fn a_schema_becomes_one_section_a_table_and_one_row_a_key() {
    let schema = serde_json::json!({
        "description": "A thing.",
        "type": "object",
        "properties": {
            "count": { "description": "How\nmany.", "type": ["integer", "null"] },
            "image": { "type": "object", "additionalProperties": false, "patternProperties": {
                "^[a-z]+$": { "$ref": "#/$defs/Image" },
            } },
            "name": { "description": "What it is called.", "type": "string" },
            "source": { "oneOf": [
                { "description": "From a tar.", "properties": { "tar": { "$ref": "#/$defs/Image" } } },
            ] },
        },
        "required": ["name"],
        "$defs": {
            "Image": { "description": "An image.", "type": "object", "properties": {
                "form": { "type": "array", "default": ["a"], "items": { "$ref": "#/$defs/Form" } },
            } },
            "Form": { "oneOf": [
                { "const": "a", "description": "The first." },
                { "const": "b", "description": "The second." },
            ] },
        },
    });
    let image = "\
An image.

| key | value | default | meaning |
|---|---|---|---|
| `form` | list of `\"a\"` or `\"b\"` | `[\"a\"]` |  |

An item of `form` is one of

- `a`: The first.
- `b`: The second.

";
    let expected = format!(
        "\
## Top

A thing.

| key | value | default | meaning |
|---|---|---|---|
| `name` | string | required | What it is called. |
| `count` | integer |  | How many. |
| `image` | tables by name |  |  |
| `source` | one table of `tar` |  |  |

## `[image.NAME]`

{image}## `[source.tar]`

{}",
        image.replace("An image.", "From a tar.")
    );
    assert_eq!(markdown::sections(&schema, "Top"), expected);
}

#[test]
fn every_capture_rule_is_in_the_table_of_its_page() {
    let page = read("docs/normalization.md");
    for pattern in plywood::layer::CaptureRules::standard().patterns() {
        assert!(page.contains(&format!("`{pattern}`")), "docs/normalization.md lacks `{pattern}`");
    }
}
