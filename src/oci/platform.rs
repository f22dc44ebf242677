//! One image out of an index for several platforms.
//!
//! Source: OCI image-spec v1.1, `image-index.md`.

use oci_spec::image::Descriptor;

/// An index without an image for the platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has no image for linux/{architecture} (but for {})", known.join(", "))]
pub struct PlatformError {
    architecture: String,
    /// Which it has images for.
    known: Vec<String>,
}

/// Returns the image for Linux on `architecture` (in Go's words: `amd64`): the first, as the specification has it.
///
/// # Errors
/// If there is none.
pub fn choose_platform<'i>(
    images: &'i [Descriptor],
    architecture: &str,
) -> Result<&'i Descriptor, PlatformError> {
    let platforms = images.iter().filter_map(|image| Some((image, image.platform().as_ref()?)));
    let fits = |os: String, of: String| os == "linux" && of == architecture;
    let mut found = platforms
        .clone()
        .filter(|(_, platform)| fits(platform.os().to_string(), platform.architecture().to_string()));
    found.next().map(|(image, _)| image).ok_or_else(|| PlatformError {
        architecture: architecture.to_owned(),
        known: platforms
            .map(|(_, platform)| format!("{}/{}", platform.os(), platform.architecture()))
            .collect(),
    })
}
