//! Chooses one image from an index for several platforms.
//!
//! Source: OCI image-spec v1.1, `image-index.md`.

use oci_spec::image::Descriptor;

use super::is_index_type;

/// An index without an image for the requested platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has no image for linux/{architecture}{}", but_for(known))]
pub struct PlatformError {
    architecture: String,
    /// The platforms that it has images for.
    known: Vec<String>,
}

fn but_for(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(", only for {}", known.join(", ")) }
}

/// Returns the image for Linux on `architecture` (as Go writes it: `amd64`). Among several, the
/// nearest variant wins, then the first in the list, as the specification requires. If there is
/// none, returns the image without a platform, if there is exactly one.
///
/// # Errors
/// [`PlatformError`] if no image fits.
fn choose_platform<'i>(
    images: &'i [Descriptor],
    architecture: &str,
) -> Result<&'i Descriptor, PlatformError> {
    let platforms = images.iter().filter_map(|image| Some((image, image.platform().as_ref()?)));
    let fits = |os: String, of: String| os == "linux" && of == architecture;
    let found = platforms
        .clone()
        .filter(|(_, platform)| fits(platform.os().to_string(), platform.architecture().to_string()))
        .min_by_key(|(_, platform)| distance(architecture, platform.variant().as_deref()));
    let mut silent = images.iter().filter(|image| image.platform().is_none());
    let only_silent = || silent.next().filter(|_| silent.next().is_none());
    found.map(|(image, _)| image).or_else(only_silent).ok_or_else(|| PlatformError {
        architecture: architecture.to_owned(),
        known: platforms
            .map(|(_, platform)| format!("{}/{}", platform.os(), platform.architecture()))
            .collect(),
    })
}

/// Returns the distance of a variant from the baseline of Debian's port to an architecture. CPUs
/// run code for their own and earlier variants. An image without a variant counts as the baseline.
///
/// Source: OCI image-spec v1.1, `image-index.md`, "Platform Variants".
fn distance(architecture: &str, variant: Option<&str>) -> usize {
    let preferred: &[&str] = match architecture {
        "arm" => &["v7", "v6", "v5"],
        "arm64" => &["v8"],
        _ => &["v1"],
    };
    let Some(variant) = variant else { return 0 };
    preferred.iter().position(|known| *known == variant).unwrap_or(preferred.len())
}

/// Limit of nested indexes. Digests make circles impossible; the limit stops a hostile registry
/// from making plywood read without end.
const MAX_DEPTH: usize = 4;
/// Limit of nested indexes that are read in all.
const MAX_INDEXES: usize = 16;

/// Finds the image for Linux on `architecture` among `images` and in nested indexes: first by
/// platform, then in nested indexes without a platform, in order. `read` returns the entries of an
/// index.
///
/// # Errors
/// The outer error is that of `read`. The inner error means that there is no such image.
pub fn find_image<E>(
    images: &[Descriptor],
    architecture: &str,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<Descriptor>, E>,
) -> Result<Result<Descriptor, PlatformError>, E> {
    Search { architecture, read, left: MAX_INDEXES }.among(images, MAX_DEPTH)
}

struct Search<'a, E> {
    architecture: &'a str,
    read: &'a mut dyn FnMut(&Descriptor) -> Result<Vec<Descriptor>, E>,
    left: usize,
}

impl<E> Search<'_, E> {
    fn among(&mut self, images: &[Descriptor], depth: usize) -> Result<Result<Descriptor, PlatformError>, E> {
        let error = match choose_platform(images, self.architecture) {
            Ok(chosen) if !is_index(chosen) => return Ok(Ok(chosen.clone())),
            Ok(chosen) => return self.within(chosen, depth),
            Err(error) => error,
        };
        for nested in images.iter().filter(|image| is_index(image) && image.platform().is_none()) {
            if let Ok(found) = self.within(nested, depth)? {
                return Ok(Ok(found));
            }
        }
        Ok(Err(error))
    }

    fn within(&mut self, index: &Descriptor, depth: usize) -> Result<Result<Descriptor, PlatformError>, E> {
        if depth == 0 || self.left == 0 {
            return Ok(Err(PlatformError { architecture: self.architecture.to_owned(), known: Vec::new() }));
        }
        self.left -= 1;
        let images = (self.read)(index)?;
        self.among(&images, depth - 1)
    }
}

fn is_index(image: &Descriptor) -> bool {
    is_index_type(image.media_type().as_ref())
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ImageIndex;
    use serde_json::{Value, json};

    use super::*;

    /// Returns the size of the image that is chosen for amd64; it equals the index in `platforms`.
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
    fn the_first_matching_image_or_the_only_one_without_a_platform_is_chosen() {
        assert_eq!(chosen(&[None, Some("arm64"), Some("amd64"), Some("amd64")]), Ok(2));
        assert_eq!(chosen(&[Some("arm64"), None]), Ok(1));
        let refused = |images: &[Option<&str>]| chosen(images).unwrap_err();
        assert_eq!(refused(&[Some("arm64")]), "it has no image for linux/amd64, only for linux/arm64");
        assert_eq!(refused(&[None, None]), "it has no image for linux/amd64");
    }

    #[test]
    fn the_variant_of_debians_port_is_chosen() {
        let chosen = |architecture: &str, variants: &[Option<&str>]| {
            let image = |(place, variant): (usize, &Option<&str>)| {
                let digest = format!("sha256:{place:064x}");
                let mut platform = json!({ "os": "linux", "architecture": architecture });
                if let Some(variant) = variant {
                    platform["variant"] = json!(variant);
                }
                let image =
                    json!({ "mediaType": "x", "digest": digest, "size": place, "platform": platform });
                serde_json::from_value(image).unwrap()
            };
            let images: Vec<Descriptor> = variants.iter().enumerate().map(image).collect();
            choose_platform(&images, architecture).unwrap().size()
        };
        assert_eq!(chosen("arm", &[Some("v5"), Some("v6"), Some("v7"), Some("v8")]), 2);
        assert_eq!(chosen("arm", &[Some("v8"), Some("v5"), Some("v6")]), 2);
        assert_eq!(chosen("arm", &[Some("v5"), None, Some("v7")]), 1);
        assert_eq!(chosen("amd64", &[Some("v3"), None]), 1);
        assert_eq!(chosen("arm64", &[Some("v9"), Some("v8")]), 1);
    }

    #[test]
    fn images_are_found_in_nested_indexes() {
        let index = "application/vnd.oci.image.index.v1+json";
        let named = |size: u64, media_type: &str, platform: Option<&str>| {
            let digest = format!("sha256:{size:064x}");
            let mut image = json!({ "mediaType": media_type, "digest": digest, "size": size });
            if let Some(architecture) = platform {
                image["platform"] = json!({ "os": "linux", "architecture": architecture });
            }
            serde_json::from_value::<Descriptor>(image).unwrap()
        };
        let tree = |size: u64| match size {
            1 => vec![named(10, "x", Some("arm64")), named(11, "x", Some("riscv64"))],
            2 => vec![named(3, index, None), named(1, index, None)],
            3 => vec![named(30, "x", Some("arm64")), named(31, "x", Some("amd64"))],
            // Deeper and deeper.
            deeper => vec![named(deeper + 1, index, None), named(deeper + 2, index, None)],
        };
        let find = |images: &[Descriptor]| {
            let mut reads = 0;
            let found = find_image(images, "amd64", &mut |index| {
                reads += 1;
                Ok::<_, ()>(tree(index.size()))
            });
            assert!(reads <= MAX_INDEXES, "{reads}");
            found.unwrap().map(|image| image.size()).map_err(|error| error.to_string())
        };
        assert_eq!(find(&[named(1, index, None), named(2, index, None)]), Ok(31));
        assert_eq!(find(&[named(2, index, Some("amd64")), named(9, "x", Some("arm64"))]), Ok(31));
        assert_eq!(find(&[named(9, "x", Some("amd64")), named(2, index, None)]), Ok(9));
        assert!(find(&[named(1, index, None), named(9, "x", Some("arm64"))]).is_err());
        assert!(find(&[named(100, index, None)]).unwrap_err().contains("no image for linux/amd64"));
    }
}
