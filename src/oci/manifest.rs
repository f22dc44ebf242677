//! Image manifests.
//!
//! Source: OCI image-spec v1.1, `manifest.md` and `descriptor.md`.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType, Sha256Digest};

use super::{Digest, canonical_json};

/// Returns the descriptor of a blob of `bytes` bytes.
pub fn descriptor(media_type: &str, digest: &Digest, bytes: u64) -> Descriptor {
    let hex: Sha256Digest = digest.hex().parse().expect("64 hex digits are a SHA-256");
    Descriptor::new(MediaType::from(media_type), bytes, hex)
}

/// Returns the manifest of an image in canonical JSON. `config` is the bytes of the image config;
/// the lowest layer comes first.
pub fn image_manifest(
    config: &[u8],
    layers: Vec<Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    let config = descriptor(MediaType::ImageConfig.as_ref(), &Digest::of(config), config.len() as u64);
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers);
    if !annotations.is_empty() {
        let annotations: HashMap<_, _> = annotations.clone().into_iter().collect();
        manifest = manifest.annotations(annotations);
    }
    canonical_json(&manifest.build().expect("every required field is set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_reproducible() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &Digest::of("layer"), 5);
        let annotations =
            BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let (config_digest, layer_digest) = (Digest::of("{}"), Digest::of("layer"));
        assert_eq!(
            String::from_utf8(image_manifest(b"{}", vec![layer], &annotations)).unwrap(),
            format!(
                r#"{{"annotations":{{"a":"1","b":"2"}},"config":{{"digest":"{config_digest}","mediaType":"application/vnd.oci.image.config.v1+json","size":2}},"layers":[{{"digest":"{layer_digest}","mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":5}}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}}"#
            )
        );
    }
}
