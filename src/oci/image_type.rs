//! Manifests of images, and of what else registries hold.
//!
//! Attestations, signatures, programs for WebAssembly, charts and many more have manifests of the same form. Only media
//! types tell them apart.

use oci_spec::image::{Descriptor, ImageManifest};

/// A manifest that is none of an image whose layers are file systems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// Its config is none of an image.
    #[error("it is no image but an artifact of type `{0}`")]
    Artifact(String),
    /// One of its layers is something else than an archive of files.
    #[error("its layer {digest} has the media type `{media_type}`, which is none of a file system's layer")]
    Layer {
        /// The layer.
        digest: String,
        /// Its media type.
        media_type: String,
    },
}

/// Source: OCI image-spec v1.1, `media-types.md`; Docker image manifest version 2, schema 2.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What layers are called, before the compression.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Fails for a manifest whose layers are no file systems, with the media type that says so.
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
    // Docker writes a point where the specification has a plus.
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
    fn images_are_told_from_artifacts_by_media_types() {
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
