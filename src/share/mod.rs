//! The form in which build hosts share steps through a registry.
//!
//! ```text
//! tag        the tags of a step in the cache repository
//! step       the published part of a step: keys, key fields, layers  Record + Layers -> SharedStep
//! artifact   the same as an OCI artifact manifest, signed            SharedStep <-> canonical bytes
//! index      the steps with which an image was last published        explains misses
//! refusal    the reason for not using a published step
//! prune      selects the published steps that may be deleted
//! ```
//!
//! | tag | points at |
//! |---|---|
//! | `k-<input key>` | the manifest of the step with that key |
//! | `c-<content key>` | the same manifest, for builds whose layers below have the same content and other keys |
//! | `i-<image>` | an index of the manifests of the image's last published build |
//!
//! The manifest is an artifact (`artifactType` [`ARTIFACT_TYPE`]). Its layers are the layers of the
//! step: the same blobs that manifests of images name. Annotations describe the step:
//!
//! | annotation | value |
//! |---|---|
//! | `plywood.step`, `plywood.image` | its name, and the image that it was first built for |
//! | `plywood.input-key`, `plywood.content-key`, `plywood.parent-key` | its keys, and the input key of the step below |
//! | `plywood.fields` | the key fields as a JSON object, with digests in place of the values of variables |
//! | `plywood.host` | the files of the build host that its hooks have read, as far as they matter on other hosts; only with host phases |
//! | `plywood.behaviour` | the version of plywood's behavior at running hooks |
//! | `org.opencontainers.image.created` | the time of publication |
//! | `plywood.signature` | the signature over all of the above and the layers |
//! | on each layer: `plywood.diff-id`, `plywood.tar-bytes`, `plywood.entries` | the DiffID, size and number of entries of the tar in the blob |
//!
//! The signature covers the whole manifest in canonical JSON except for itself. So it binds keys,
//! DiffIDs, digests and sizes of the blobs to each other. A base that was imported as layers has
//! its image config as the config; other steps have the empty config.
//!
//! A step that was built with a secret is not published, and neither are the steps above it: see
//! [`publishable`].
//!
//! Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact Usage"; distribution-spec
//! v1.1, "Pull", "Push".

mod artifact;
mod index;
mod prune;
mod refusal;
mod step;
mod tag;

pub use artifact::{ARTIFACT_TYPE, EMPTY};
pub use index::{StepIndex, image_index};
pub use prune::PrunePolicy;
pub use refusal::Refusal;
pub use step::{SharedStep, Withheld, publishable};
pub use tag::{StepKey, image_tag, is_image_tag};
