//! Built steps in the form in which machines share them through any registry.
//!
//! ```text
//! tag        which tags a step has in the cache repository
//! step       what is told of a step: keys, key fields, layers       Step + Layers -> SharedStep
//! manifest   the same as an OCI artifact manifest, signed            SharedStep <-> canonical bytes
//! index      the steps that an image was last published with         what a miss is explained by
//! refusal    why what a registry gave does not count
//! prune      which of the published steps may go
//! ```
//!
//! | tag | points at |
//! |---|---|
//! | `k-<input key>` | the manifest of the step with that key |
//! | `c-<content key>` | the same manifest, for builds whose layers below have the same content and other keys |
//! | `i-<image>` | an index of the manifests of the image's last published build |
//!
//! The manifest is an artifact (`artifactType` [`ARTIFACT_TYPE`]) whose layers are the step's layers, the very blobs that
//! manifests of images name. What the step is stands in annotations:
//!
//! | annotation | value |
//! |---|---|
//! | `plywood.step`, `plywood.image` | its name, and the image it was built for first |
//! | `plywood.input-key`, `plywood.content-key`, `plywood.parent-key` | its keys, and the input key of the step below |
//! | `plywood.fields` | what the keys were made of, as a JSON object: digests in place of the values of variables |
//! | `plywood.host` | what its hooks read of the build host, as far as it counts on other machines; if any ran there |
//! | `plywood.behaviour` | the version of how hooks are run |
//! | `org.opencontainers.image.created` | when it was published |
//! | `plywood.signature` | who vouches for all of the above and for the layers |
//! | on each layer: `plywood.diff-id`, `plywood.tar-bytes`, `plywood.entries` | what the blob decodes to |
//!
//! Signed is the whole manifest in canonical JSON, without the signature alone: keys, DiffIDs, digests and sizes of the blobs
//! are bound to each other. A base that came as layers has its image config as the config; others have the empty one.
//!
//! Nothing is told of a step that was made with a secret, nor of those above it: see [`publishable`].
//!
//! Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact Usage"; distribution-spec v1.1, "Pull", "Push".

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
