//! The manifest of an App Container Image.

use serde_json::json;

use crate::oci::canonical_json;

/// The version of the specification.
const VERSION: &str = "0.8.11";

/// Returns a manifest with name and platform, for an image whose project has no manifest.
///
/// Source: App Container specification, `aci.md`, "Image Manifest Schema".
pub fn app_container_manifest(name: &str, architecture: &str) -> Vec<u8> {
    canonical_json(&json!({
        "acKind": "ImageManifest",
        "acVersion": VERSION,
        "name": identifier(name),
        "labels": [{ "name": "os", "value": "linux" }, { "name": "arch", "value": architecture }],
    }))
}

/// Returns the name with the characters that the specification allows.
fn identifier(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let letters = name.to_ascii_lowercase().replace(|c: char| !allowed(c), "-");
    letters.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_the_image_with_allowed_characters() {
        let manifest = app_container_manifest("My_Image-12.", "amd64");
        let value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!((&value["name"], &value["acKind"]), (&"my-image-12".into(), &"ImageManifest".into()));
        assert_eq!(value["labels"][1], json!({ "name": "arch", "value": "amd64" }));
    }
}
