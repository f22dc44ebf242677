//! Bases that consist of layers. They are imported once, and are then images of the store with the
//! name `base/<digest of the source>`.

use std::fs::File;
use std::path::Path;

use super::document::{self, invalid};
use super::file::failed;
use super::import::{Imported, cannot_import};
use super::transfer::manifest_of;
use super::{Bases, StoredImage};
use crate::distro::{Architecture, BaseSource, StoredFile};
use crate::oci::{Digest, ImageConfig};
use crate::port::{BaseImage, Blob, Layer, StoreError};

/// Prefix of the names of bases in the index.
pub(super) const BASE_PREFIX: &str = "base/";

impl Bases<'_> {
    /// Returns the name in the index of the base whose source, a manifest or a file, has this
    /// digest.
    pub fn name(digest: &Digest) -> String {
        format!("{BASE_PREFIX}{}", digest.hex())
    }

    /// Returns the layers and the config of a base that consists of layers. Imports them if they
    /// are missing.
    ///
    /// # Errors
    /// [`StoreError::Import`] with the cause for a source that cannot be imported,
    /// [`StoreError::WrongBase`] if its digest differs from the definition's.
    pub(super) fn get(
        &self,
        source: &BaseSource,
        architecture: Architecture,
    ) -> Result<BaseImage, StoreError> {
        let digest = match source {
            BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
                file.digest
            }
            BaseSource::Stored { digest, .. } => {
                return self.stored_base(digest).map_err(|error| self.no_base(digest, error));
            }
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) => {
                unreachable!("a bootstrapped base does not come as layers")
            }
        };
        let name = Self::name(&digest);
        if let Some((_, manifest)) = self.store.images().names()?.into_iter().find(|(known, _)| *known == name)
            // A damaged base is imported again rather than reported.
            && let Ok(base) = self.stored_base(&manifest)
        {
            return Ok(base);
        }
        let (path, imported) = self.import_source(source, architecture)?;
        let (config, layers) = self.parts(&imported, architecture).map_err(cannot_import(path))?;
        let manifest = self.store.images().put_layers(&name, &config, &layers)?;
        self.stored_base(&manifest)
    }

    fn no_base(&self, manifest: &Digest, error: StoreError) -> StoreError {
        match error {
            StoreError::MissingBlob { .. } | StoreError::MissingLayer { .. } => {
                StoreError::NoBase { digest: *manifest, path: self.store.path().to_owned() }
            }
            other => other,
        }
    }

    fn import_source<'a>(
        &self,
        source: &'a BaseSource,
        architecture: Architecture,
    ) -> Result<(&'a Path, Imported), StoreError> {
        let (go, _) = architecture.oci();
        match source {
            BaseSource::OciLayout(StoredFile { path, digest }) => {
                Ok((path, self.import_oci_layout(path, Some(&digest.to_string()), go)?))
            }
            BaseSource::DockerArchive(StoredFile { path, digest }) => {
                verify_file(path, digest)?;
                Ok((path, self.import_docker_archive(path, None, go)?))
            }
            BaseSource::RootfsTar(StoredFile { path, digest }) => {
                verify_file(path, digest)?;
                Ok((path, self.import_rootfs_tar(path)?))
            }
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) | BaseSource::Stored { .. } => {
                unreachable!("handled by the caller")
            }
        }
    }

    /// Stores an import as a base. A bare root file system gets a minimal config. Returns the
    /// digest of the manifest, by which definitions name the base.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::MissingLayer`].
    pub fn put(&self, imported: &Imported, architecture: Architecture) -> Result<Digest, StoreError> {
        let (config, layers) = self.parts(imported, architecture)?;
        self.put_layers(&config, &layers)
    }

    /// Stores an image of these layers (lowest first) as a base. Returns the digest of its
    /// manifest.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Io`].
    pub fn put_layers(&self, config: &[u8], layers: &[Layer]) -> Result<Digest, StoreError> {
        // The name is the digest, because projects that share a store may use one name for
        // different bases.
        let name = Self::name(&Digest::of(manifest_of(config, layers)));
        self.store.images().put_layers(&name, config, layers)
    }

    /// Returns the image of a base by the digest of its manifest; `None` if the store lacks it.
    ///
    /// # Errors
    /// As [`super::Images::get`].
    pub fn find(&self, manifest: &Digest) -> Result<Option<StoredImage>, StoreError> {
        self.store.images().get(&Self::name(manifest))
    }

    /// Returns config and layers of an import.
    fn parts(
        &self,
        imported: &Imported,
        architecture: Architecture,
    ) -> Result<(Vec<u8>, Vec<Layer>), StoreError> {
        let config = match &imported.config {
            Some(config) => config.clone(),
            None => plain_config(imported, architecture, self.store.path())?,
        };
        let layers = imported.diff_ids.iter().map(|diff_id| self.store.layers().require(diff_id));
        Ok((config, layers.collect::<Result<_, _>>()?))
    }

    fn stored_base(&self, manifest: &Digest) -> Result<BaseImage, StoreError> {
        let path = self.store.layout().blob(manifest);
        let parsed: oci_spec::image::ImageManifest =
            document::parse(&path, &self.store.blobs().get(manifest)?)?;
        let config = self.store.blobs().get(&document::parse_digest(&path, parsed.config())?)?;
        let diff_ids = document::expected_diff_ids(&path, &config, parsed.layers().len())?;
        let layers = diff_ids.iter().zip(parsed.layers()).map(|(diff_id, blob)| {
            let missing = || StoreError::MissingLayer { diff_id: *diff_id };
            let blob = Blob { digest: document::parse_digest(&path, blob)?, bytes: blob.size() };
            let named = self.store.layers().find(diff_id, &blob)?;
            // The layer may have been compressed again since. Then another blob holds it.
            named.map_or_else(|| self.store.layers().get(diff_id)?.ok_or_else(missing), Ok)
        });
        Ok(BaseImage { layers: layers.collect::<Result<_, _>>()?, config })
    }

    /// Stores a fetched base, whose layers are in the store, as the base that `source` defines.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the config names other layers, [`StoreError::Damaged`] if
    /// `source` has the digest of another manifest.
    pub(super) fn put_as(&self, source: &BaseSource, base: &BaseImage) -> Result<(), StoreError> {
        let path = Path::new("the config of a fetched base");
        if document::expected_diff_ids(path, &base.config, base.layers.len())? != base.diff_ids() {
            return Err(invalid(path, "it names other layers than were fetched with it".to_owned()));
        }
        let manifest = manifest_of(&base.config, &base.layers);
        let name = match source {
            BaseSource::Stored { digest, .. } => {
                verify_manifest(digest, &manifest)?;
                Self::name(digest)
            }
            BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
                Self::name(&file.digest)
            }
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) => {
                unreachable!("a bootstrapped base has no config")
            }
        };
        self.store.blobs().put(&base.config)?;
        self.store.images().put(&name, &manifest)?;
        Ok(())
    }
}

fn verify_manifest(expected: &Digest, manifest: &[u8]) -> Result<(), StoreError> {
    match Digest::of(manifest) {
        found if found == *expected => Ok(()),
        found => Err(StoreError::Damaged { expected: *expected, found }),
    }
}

fn plain_config(imported: &Imported, architecture: Architecture, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut config =
        ImageConfig::new(architecture.oci().0, 0).map_err(|error| invalid(path, error.to_string()))?;
    config.push_step("imported root file system", &imported.diff_ids);
    Ok(config.to_bytes())
}

fn verify_file(path: &Path, expected: &Digest) -> Result<(), StoreError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let found = Digest::of_reader(file).map_err(failed("read", path))?;
    match found == *expected {
        true => Ok(()),
        false => Err(StoreError::WrongBase { path: path.to_owned(), expected: *expected, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Entry, Kind, Meta};
    use crate::oci::VerifyingReader;
    use crate::port::LayerStore;
    use crate::store::Store;

    #[test]
    fn a_base_from_another_store_is_kept_if_its_digest_matches() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| Store::open(&directory.path().join(name)).unwrap();
        let (a, b) = (open("a"), open("b"));
        let mut encoder = Encoder::new(Vec::new());
        let entry = Entry { path: "etc".into(), kind: Kind::Directory, meta: Meta::IMPLIED_DIRECTORY };
        encoder.append(&entry).unwrap();
        let (file, archive) = (directory.path().join("rootfs.tar"), encoder.finish().unwrap().0);
        std::fs::write(&file, &archive).unwrap();
        let imported = a.bases().import_rootfs_tar(&file).unwrap();
        let digest = a.bases().put(&imported, Architecture::Amd64).unwrap();
        let source = BaseSource::Stored { digest, reference: None };
        let base = a.bases().get(&source, Architecture::Amd64).unwrap();

        let (layer, mut bytes) = (&base.layers[0], archive.as_slice());
        let mut blob = VerifyingReader::new(&mut bytes as &mut dyn std::io::Read, layer.blob);
        LayerStore::receive(&b, layer, &mut blob).unwrap();
        let other = BaseSource::Stored { digest: Digest::of("other"), reference: None };
        assert!(matches!(b.bases().put_as(&other, &base), Err(StoreError::Damaged { .. })));
        let mut config = ImageConfig::new("amd64", 0).unwrap();
        config.push_step("another", &[crate::oci::DiffId::new(Digest::of("another"))]);
        let lie = BaseImage { config: config.to_bytes(), ..base.clone() };
        assert!(matches!(b.bases().put_as(&source, &lie), Err(StoreError::Invalid { .. })));
        assert!(b.bases().get(&source, Architecture::Amd64).is_err());
        b.bases().put_as(&source, &base).unwrap();
        assert_eq!(b.bases().get(&source, Architecture::Amd64).unwrap(), base);

        let file = StoredFile { path: "absent.tar".into(), digest: Digest::of(&archive) };
        let by_file = BaseSource::RootfsTar(file);
        b.bases().put_as(&by_file, &base).unwrap();
        assert_eq!(b.bases().get(&by_file, Architecture::Amd64).unwrap(), base);
    }

    #[test]
    fn the_error_for_a_missing_base_names_the_base_and_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let source = BaseSource::Stored { digest: Digest::of("manifest"), reference: None };
        let error = store.bases().get(&source, Architecture::Amd64).unwrap_err();
        let StoreError::NoBase { digest, path } = error else { panic!("{error:?}") };
        assert_eq!((digest, path.as_path()), (Digest::of("manifest"), store.path()));
    }
}
