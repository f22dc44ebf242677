//! Distinguishes images from other artifacts.
//!
//! Attestations, signatures, WebAssembly programs and Helm charts have manifests of the same form.
//! Only the media types differ.

use oci_spec::image::{Descriptor, ImageManifest};

/// The manifest of something else than an image whose layers are file systems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// Its config has another media type than that of an image.
    #[error("it is not an image but an artifact of type `{0}`")]
    Artifact(String),
    /// One of its layers is not an archive of files.
    #[error(
        "its layer {digest} has the media type `{media_type}`: expected a layer of files, such as `application/vnd.oci.image.layer.v1.tar+gzip`"
    )]
    Layer { digest: String, media_type: String },
}

/// Source: OCI image-spec v1.1, `media-types.md`; Docker image manifest version 2, schema 2.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Media types of layers, without the suffix of the compression.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Fails for a manifest whose layers are not file systems.
///
/// # Errors
/// [`NoImage`].
pub fn refuse_artifact(manifest: &ImageManifest) -> Result<(), NoImage> {
    let config = manifest.config().media_type();
    if !CONFIGS.contains(&config.as_ref()) {
        let kind = manifest.artifact_type().as_ref().unwrap_or(config);
        return Err(NoImage::Artifact(kind.to_string()));
    }
    manifest.layers().iter().find(|layer| !is_layer(layer)).map_or(Ok(()), |layer| {
        let (digest, media_type) = (layer.digest().to_string(), layer.media_type().to_string());
        Err(NoImage::Layer { digest, media_type })
    })
}

fn is_layer(layer: &Descriptor) -> bool {
    let media_type = layer.media_type().to_string();
    let compression = LAYERS.iter().find_map(|known| media_type.strip_prefix(known));
    // Docker writes `.gzip` where the specification has `+gzip`.
    compression.is_some_and(|rest| matches!(rest, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(config: &str, layer: &str) -> Result<(), NoImage> {
        let blob =
            |media_type| json!({ "mediaType": media_type, "digest": format!("sha256:{:064}", 1), "size": 1 });
        let manifest = json!({ "schemaVersion": 2, "config": blob(config), "layers": [blob(layer)] });
        refuse_artifact(&serde_json::from_value(manifest).unwrap())
    }

    #[test]
    fn images_are_distinguished_from_artifacts_by_media_types() {
        for layer in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            CONFIGS.iter().for_each(|config| check(config, layer).unwrap());
        }
        for layer in [
            "application/vnd.in-toto+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm",
            "application/vnd.oci.image.layer.v1.tar+encrypted",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        ] {
            let error = check(CONFIGS[0], layer).unwrap_err().to_string();
            assert!(error.contains(&format!("`{layer}`")), "{error}");
        }
        for config in ["application/vnd.wasm.config.v0+json", "application/vnd.oci.empty.v1+json"] {
            assert_eq!(check(config, LAYERS[0]), Err(NoImage::Artifact(config.to_owned())));
        }
    }
}
