//! One image out of an index for several platforms.
//!
//! Source: OCI image-spec v1.1, `image-index.md`.

use oci_spec::image::Descriptor;

/// An index without an image for the platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has no image for linux/{architecture}{}", but_for(known))]
pub struct PlatformError {
    architecture: String,
    /// Which it has images for.
    known: Vec<String>,
}

fn but_for(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (but for {})", known.join(", ")) }
}

/// Returns the image for Linux on `architecture` (in Go's words: `amd64`): the first, as the specification has it; else the only one
/// that does not say what it is for, as it need not.
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
    let mut silent = images.iter().filter(|image| image.platform().is_none());
    let only_silent = || silent.next().filter(|_| silent.next().is_none());
    found.next().map(|(image, _)| image).or_else(only_silent).ok_or_else(|| PlatformError {
        architecture: architecture.to_owned(),
        known: platforms
            .map(|(_, platform)| format!("{}/{}", platform.os(), platform.architecture()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ImageIndex;
    use serde_json::{Value, json};

    use super::*;

    /// Returns which of these images is chosen for amd64, by its size.
    fn chosen(platforms: &[Option<&str>]) -> Result<u64, String> {
        let image = |(place, platform): (usize, &Option<&str>)| {
            let digest = format!("sha256:{place:064x}");
            let mut image = json!({ "mediaType": "x", "digest": digest, "size": place });
            if let Some(architecture) = platform {
                image["platform"] = json!({ "os": "linux", "architecture": architecture });
            }
            image
        };
        let images: Vec<Value> = platforms.iter().enumerate().map(image).collect();
        let index: ImageIndex =
            serde_json::from_value(json!({ "schemaVersion": 2, "manifests": images })).unwrap();
        choose_platform(index.manifests(), "amd64").map(Descriptor::size).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_that_fits_or_the_only_one_that_does_not_say_is_chosen() {
        assert_eq!(chosen(&[None, Some("arm64"), Some("amd64"), Some("amd64")]), Ok(2));
        assert_eq!(chosen(&[Some("arm64"), None]), Ok(1));
        let refused = |images: &[Option<&str>]| chosen(images).unwrap_err();
        assert_eq!(refused(&[Some("arm64")]), "it has no image for linux/amd64 (but for linux/arm64)");
        assert_eq!(refused(&[None, None]), "it has no image for linux/amd64");
    }
}
