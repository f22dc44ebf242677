//! Canonical JSON, for every JSON document that plywood writes.

use serde::Serialize;
use serde_json::Value;

/// Returns `document` as canonical JSON: keys sorted bytewise, no white space, no final newline.
/// Documents must not contain floats.
///
/// `oci-spec` keeps annotations and labels in hash maps. Its own output has another order in each
/// run, and so another digest.
///
/// # Panics
/// If the type of `document` cannot be JSON, such as a map whose keys are not strings.
pub fn canonical_json(document: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(document).expect("a document type of ours serialises to JSON");
    let mut bytes = Vec::new();
    write_value(&mut bytes, &value);
    bytes
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        // Sorted here, so that the result does not depend on serde_json's feature `preserve_order`.
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_bytes());
            write_sequence(out, b"{}", entries, |out, (key, value)| {
                write_scalar(out, &Value::from(key.as_str()));
                out.push(b':');
                write_value(out, value);
            });
        }
        Value::Array(items) => write_sequence(out, b"[]", items, write_value),
        scalar => write_scalar(out, scalar),
    }
}

fn write_sequence<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    write_item: impl Fn(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_item(out, item);
    }
    out.push(brackets[1]);
}

fn write_scalar(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a scalar is written to memory");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_of_hash_maps_are_sorted_bytewise() {
        let labels: HashMap<String, u32> =
            [("b", 1), ("B", 2), ("a", 3), ("é", 4)].map(|(k, v)| (k.to_owned(), v)).into();
        assert_eq!(String::from_utf8(canonical_json(&labels)).unwrap(), r#"{"B":2,"a":3,"b":1,"é":4}"#);
    }

    #[test]
    fn nested_documents_have_no_white_space() {
        let document = serde_json::json!({ "z": [1, { "y": null, "x": "\"\n" }], "a": true });
        assert_eq!(
            String::from_utf8(canonical_json(&document)).unwrap(),
            r#"{"a":true,"z":[1,{"x":"\"\n","y":null}]}"#
        );
    }
}
