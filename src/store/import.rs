//! Imports bases: OCI layouts, docker archives, root file system archives.
//!
//! Each blob is read once: it is copied into the store while its digest, its DiffID and its entries
//! are determined. This module unpacks nothing and fetches nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::document::{chain, expected_diff_ids, invalid, name_of, parse, parse_digest};
use super::file::failed;
use super::{Bases, Store};
use crate::directory::read_document;
use crate::oci::{
    DiffId, Digest, RawManifest, VerifyingReader, find_image, is_foreign, is_index_type, refuse_artifact,
    refuse_other_platform,
};
use crate::port::StoreError;

/// An imported image or root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Layers, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// The image config of the source, byte for byte. `None` for a bare root file system.
    pub config: Option<Vec<u8>>,
    /// Digest of the manifest of the source, if it has one.
    pub manifest: Option<Digest>,
}

impl Bases<'_> {
    /// Imports an image from the OCI layout `directory`: the image with the name or digest
    /// `reference`, or the only image. From an image for several platforms, imports the one for
    /// Linux on `architecture` (a name of Go, such as `amd64`).
    ///
    /// # Errors
    /// [`StoreError::Import`] with the cause.
    pub fn import_oci_layout(
        &self,
        directory: &Path,
        reference: Option<&str>,
        architecture: &str,
    ) -> Result<Imported, StoreError> {
        let source = OciLayout { directory, architecture };
        source.import(self.store, reference).map_err(cannot_import(directory))
    }

    /// Imports a root file system as one layer from a tar archive, which may be compressed with
    /// gzip or zstd.
    ///
    /// # Errors
    /// [`StoreError::Import`] with the cause.
    pub fn import_rootfs_tar(&self, file: &Path) -> Result<Imported, StoreError> {
        let import = || {
            let source = File::open(file).map_err(failed("open", file))?;
            self.store.layers().import_lowest(source, file)
        };
        let layer = import().map_err(cannot_import(file))?;
        Ok(Imported { diff_ids: vec![layer.diff_id], config: None, manifest: None })
    }
}

pub(super) fn cannot_import(path: &Path) -> impl FnOnce(StoreError) -> StoreError {
    move |source| StoreError::Import { path: path.to_owned(), source: Box::new(source) }
}

/// An OCI layout on disk.
struct OciLayout<'a> {
    directory: &'a Path,
    architecture: &'a str,
}

impl OciLayout<'_> {
    fn import(&self, store: &Store, reference: Option<&str>) -> Result<Imported, StoreError> {
        let path = self.directory.join("index.json");
        let bytes = read_document(&path).map_err(failed("read", &path))?;
        let index: ImageIndex = parse(&path, &bytes)?;
        let image = match self.choose(&path, index.manifests(), reference)? {
            [only] if !is_index(only) => only.clone(),
            several => self.find(&path, several)?,
        };
        let bytes = self.read_blob(&image)?;
        // Checks the media type first. Otherwise a manifest of Docker's first schema would be
        // refused for missing fields, which explains nothing.
        RawManifest::new(image.media_type().as_ref(), bytes.clone())
            .map_err(|error| invalid(&path, chain(&error)))?;
        let manifest: ImageManifest = parse(&path, &bytes)?;
        refuse_artifact(&manifest).map_err(|error| invalid(&path, error.to_string()))?;
        let config = self.read_blob(manifest.config())?;
        refuse_other_platform(&config, self.architecture)
            .map_err(|error| invalid(&path, error.to_string()))?;
        let diff_ids = expected_diff_ids(&path, &config, manifest.layers().len())?;
        for (layer, diff_id) in manifest.layers().iter().zip(&diff_ids) {
            self.import_layer(store, layer, diff_id)?;
        }
        Ok(Imported { diff_ids, config: Some(config), manifest: Some(parse_digest(&path, &image)?) })
    }

    fn choose<'i>(
        &self,
        path: &Path,
        images: &'i [Descriptor],
        reference: Option<&str>,
    ) -> Result<&'i [Descriptor], StoreError> {
        let names = || images.iter().filter_map(name_of).collect::<Vec<_>>().join("`, `");
        match (reference, images) {
            (None, [_]) => Ok(images),
            (None, []) => Err(invalid(path, "it names no image".to_owned())),
            // Some tools list the platforms of one image like this.
            (None, several) if several.iter().all(|image| name_of(image).is_none()) => Ok(several),
            (None, _) => Err(invalid(path, format!("it names several images (choose one of `{}`)", names()))),
            (Some(reference), images) => {
                let is_it = |image: &&Descriptor| {
                    name_of(image) == Some(reference) || image.digest().to_string() == reference
                };
                let found = images.iter().find(is_it).map(std::slice::from_ref);
                found.ok_or_else(|| {
                    invalid(path, format!("it has no image `{reference}` (but `{}`)", names()))
                })
            }
        }
    }

    /// Finds the image for this architecture, also in nested indexes.
    fn find(&self, path: &Path, images: &[Descriptor]) -> Result<Descriptor, StoreError> {
        let mut read = |nested: &Descriptor| -> Result<_, StoreError> {
            let index: ImageIndex = parse(path, &self.read_blob(nested)?)?;
            Ok(index.manifests().clone())
        };
        let found = find_image(images, self.architecture, &mut read)?;
        found.map_err(|error| invalid(path, error.to_string()))
    }

    fn import_layer(&self, store: &Store, layer: &Descriptor, diff_id: &DiffId) -> Result<(), StoreError> {
        let (path, digest) = self.blob(layer)?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_foreign(layer) => {
                let reason = format!(
                    "its layer {digest} is stored outside of the registry, and plywood does not fetch such layers"
                );
                return Err(invalid(self.directory, reason));
            }
            result => result.map_err(failed("open", &path))?,
        };
        let bytes = file.metadata().map_err(failed("inspect", &path))?.len();
        if bytes != layer.size() {
            return Err(invalid(&path, format!("it has {bytes} bytes instead of {}", layer.size())));
        }
        store.layers().import(&mut VerifyingReader::new(file, digest), &path, diff_id).map(|_| ())
    }

    /// Reads a document: a manifest, an index, a config.
    fn read_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, StoreError> {
        const LIMIT_BYTES: u64 = 16 << 20;
        let (path, expected) = self.blob(blob)?;
        if blob.size() > LIMIT_BYTES {
            return Err(invalid(&path, format!("a document of {} bytes is too large", blob.size())));
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        let mut bytes = Vec::new();
        file.take(LIMIT_BYTES).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        match Digest::of(&bytes) {
            found if found == expected => Ok(bytes),
            found => Err(StoreError::Damaged { expected, found }),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<(std::path::PathBuf, Digest), StoreError> {
        let digest = parse_digest(self.directory, blob)?;
        Ok((self.directory.join("blobs/sha256").join(digest.hex()), digest))
    }
}

fn is_index(image: &Descriptor) -> bool {
    is_index_type(image.media_type().as_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use oci_spec::image::MediaType;
    use serde_json::{Value, json};

    use super::*;
    use crate::layer::{Encoder, Encoding, Entry, Kind, Meta};
    use crate::oci::{ImageConfig, descriptor, image_manifest};
    use crate::store::encoding;

    const EPOCH: i64 = 1_700_000_000;

    fn archive(name: &str) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        encoder
            .append(&Entry { path: name.into(), kind: Kind::Directory, meta: Meta::IMPLIED_DIRECTORY })
            .unwrap();
        encoder.finish().unwrap().0
    }

    struct Source {
        directory: tempfile::TempDir,
        store: Store,
    }

    impl Source {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(directory.path().join("layout/blobs/sha256")).unwrap();
            let store = Store::open(&directory.path().join("store")).unwrap();
            Self { directory, store }
        }

        fn layout(&self) -> PathBuf {
            self.directory.path().join("layout")
        }

        fn blob(&self, bytes: &[u8]) -> Digest {
            let digest = Digest::of(bytes);
            std::fs::write(self.layout().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            digest
        }

        /// Writes an image of one gzip layer; returns its descriptor as JSON.
        fn image(&self, name: &str) -> Value {
            self.image_of(&archive(name), DiffId::new(Digest::of(archive(name))))
        }

        fn image_of(&self, archive: &[u8], diff_id: DiffId) -> Value {
            self.image_on("amd64", archive, diff_id)
        }

        fn image_on(&self, architecture: &str, archive: &[u8], diff_id: DiffId) -> Value {
            let layer = encoding::encode(Encoding::Gzip, &mut &*archive, Vec::new()).unwrap();
            let mut config = ImageConfig::new(architecture, EPOCH).unwrap();
            config.push_step("test", &[diff_id]);
            let config = config.to_bytes();
            self.blob(&config);
            let layer = descriptor(Encoding::Gzip.media_type(), &self.blob(&layer), layer.len() as u64);
            let manifest = image_manifest(&config, vec![layer], &BTreeMap::new());
            let media_type = MediaType::ImageManifest.to_string();
            json!({ "mediaType": media_type, "digest": self.blob(&manifest), "size": manifest.len() })
        }

        fn index(&self, manifests: &[Value]) {
            let index = json!({ "schemaVersion": 2, "manifests": manifests });
            std::fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        }

        fn import(&self, reference: Option<&str>) -> Result<Imported, String> {
            self.store
                .bases()
                .import_oci_layout(&self.layout(), reference, "amd64")
                .map_err(|error| chain(&error))
        }
    }

    fn named(mut image: Value, name: &str) -> Value {
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        image
    }

    fn for_platform(mut image: Value, architecture: &str) -> Value {
        image["platform"] = json!({ "os": "linux", "architecture": architecture });
        image
    }

    #[test]
    fn an_image_is_imported_with_its_config_unchanged() {
        let source = Source::new();
        let image = source.image("a");
        source.index(std::slice::from_ref(&image));
        let imported = source.import(None).unwrap();
        assert_eq!(imported.diff_ids, [DiffId::new(Digest::of(archive("a")))]);
        assert_eq!(json!(imported.manifest), image["digest"]);
        let layer = source.store.layers().get(&imported.diff_ids[0]).unwrap().unwrap();
        assert_eq!((layer.entries, layer.encoding), (1, Encoding::Gzip));
        assert_eq!(layer.tar_bytes, archive("a").len() as u64);
        let config = imported.config.unwrap();
        assert!(source.layout().join("blobs/sha256").join(Digest::of(config).hex()).exists());
    }

    #[test]
    fn images_are_chosen_by_name_and_platform() {
        let source = Source::new();
        let (a, b) = (source.image("a"), source.image("b"));
        source.index(&[named(a.clone(), "one"), named(b.clone(), "two")]);
        assert_eq!(json!(source.import(Some("two")).unwrap().manifest), b["digest"]);
        assert!(source.import(None).unwrap_err().contains("choose one of `one`, `two`"));
        assert!(source.import(Some("three")).unwrap_err().contains("no image `three` (but `one`, `two`)"));
        let nested = json!({
            "schemaVersion": 2,
            "manifests": [for_platform(a.clone(), "arm64"), for_platform(b.clone(), "amd64")],
        });
        let nested = nested.to_string();
        let media_type = MediaType::ImageIndex.to_string();
        source.index(&[json!({ "mediaType": media_type, "digest": source.blob(nested.as_bytes()), "size": nested.len() })]);
        assert_eq!(json!(source.import(None).unwrap().manifest), b["digest"]);
        source.index(&[for_platform(a, "arm64"), for_platform(b, "s390x")]);
        assert!(source.import(None).unwrap_err().contains("linux/amd64, only for linux/arm64, linux/s390x"));
    }

    #[test]
    fn an_image_for_another_platform_is_refused_by_its_config() {
        let source = Source::new();
        let diff_id = DiffId::new(Digest::of(archive("a")));
        source.index(&[source.image_on("arm64", &archive("a"), diff_id)]);
        let error = source.import(None).unwrap_err();
        assert!(error.contains("the image is for linux/arm64: expected linux/amd64"), "{error}");
        source.index(&[source.image_on("", &archive("a"), diff_id)]);
        source.import(None).unwrap();
    }

    #[test]
    fn artifacts_and_old_manifests_are_refused_by_their_type() {
        let source = Source::new();
        let config = source.blob(b"{}");
        let of = |config_type: &str, layer_type: &str| {
            let blob = |media_type: &str| json!({ "mediaType": media_type, "digest": config, "size": 2 });
            let manifest =
                json!({ "schemaVersion": 2, "config": blob(config_type), "layers": [blob(layer_type)] });
            let manifest = manifest.to_string();
            let media_type = MediaType::ImageManifest.to_string();
            source.index(&[json!({
                "mediaType": media_type, "digest": source.blob(manifest.as_bytes()), "size": manifest.len(),
            })]);
            source.import(None).unwrap_err()
        };
        let image = MediaType::ImageConfig.to_string();
        let error = of(&image, "application/vnd.in-toto+json");
        assert!(error.contains("`application/vnd.in-toto+json`"), "{error}");
        let error = of("application/vnd.wasm.config.v0+json", "application/wasm");
        assert!(error.contains("an artifact of type `application/vnd.wasm.config.v0+json`"), "{error}");
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        source.index(&[
            json!({ "mediaType": media_type, "digest": source.blob(old.as_bytes()), "size": old.len() }),
        ]);
        let error = source.import(None).unwrap_err();
        assert!(error.contains(&format!("`{media_type}`")), "{error}");
    }

    #[test]
    fn wrong_bytes_are_noticed() {
        let source = Source::new();
        let image = source.image("a");
        source.index(std::slice::from_ref(&image));
        let layer = encoding::encode(Encoding::Gzip, &mut archive("a").as_slice(), Vec::new()).unwrap();
        let path = source.layout().join("blobs/sha256").join(Digest::of(&layer).hex());
        let mut damaged = layer.clone();
        damaged[20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(source.import(None).unwrap_err().contains("is damaged"));
        std::fs::write(&path, &layer[..layer.len() - 1]).unwrap();
        assert!(source.import(None).unwrap_err().contains("bytes instead of"));
        std::fs::remove_file(&path).unwrap();
        assert!(source.import(None).unwrap_err().contains("cannot open"));
        let manifest = source.layout().join("blobs/sha256").join(&image["digest"].as_str().unwrap()[7..]);
        std::fs::write(manifest, "{}").unwrap();
        assert!(source.import(None).unwrap_err().contains("is damaged"));
    }

    #[test]
    fn a_layer_must_have_the_diff_id_of_the_config() {
        let source = Source::new();
        source.index(&[source.image_of(&archive("a"), DiffId::new(Digest::of("other")))]);
        let error = source.import(None).unwrap_err();
        assert!(error.contains("its archive has DiffID"), "{error}");
    }

    #[test]
    fn a_root_file_system_is_one_layer_whatever_its_compression() {
        let source = Source::new();
        let file = source.directory.path().join("rootfs");
        for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
            let blob = encoding::encode(encoding, &mut archive("a").as_slice(), Vec::new()).unwrap();
            std::fs::write(&file, &blob).unwrap();
            let imported = source.store.bases().import_rootfs_tar(&file).unwrap();
            assert_eq!(imported.diff_ids, [DiffId::new(Digest::of(archive("a")))]);
        }
        for (content, expected) in [
            (b"\xfd7zXZ\0rest".as_slice(), "compressed with xz"),
            (&[b'x'; 1024], "no tar archive"),
            (&archive("a")[..300], "ends within a header"),
        ] {
            std::fs::write(&file, content).unwrap();
            let error = chain(&source.store.bases().import_rootfs_tar(&file).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
