//! Publishes built steps in a registry, for other build hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::{BuiltStep, Ports};
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest, TagOrDigest};
use crate::plan::{Evidence, Plan, Record, Step, StepName};
use crate::port::{Blob, Layer, LayerBlobs, LayerStore, RemoteCache, RemoteError, StoreError, Tagged};
use crate::share::{EMPTY, SharedStep, StepKey, Withheld, image_index, image_tag, publishable};
use crate::trust::{Policy, Requirement, SigningKey};

/// Source: OCI image-spec, `media-types.md`.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Publishes the steps of images in one repository.
pub struct Publisher<'a> {
    pub to: &'a dyn RemoteCache,
    /// The source of the layers' bytes.
    pub blobs: &'a dyn LayerBlobs,
    /// Published steps that this policy trusts stay as they are.
    pub policy: &'a Policy,
    pub key: Option<&'a SigningKey>,
    /// The time of publication, in seconds since 1970.
    pub now: i64,
    /// Blobs of which the repository holds damaged copies. A registry does not replace a blob that
    /// it has, so these layers are published in another encoding, which has another digest.
    pub damaged: BTreeSet<Digest>,
}

/// The result of publishing an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// How many steps other build hosts can find now.
    pub steps: usize,
    /// How many of them they could not find before.
    pub new: usize,
    /// The first step that is not published, and the reason.
    pub withheld: Option<Withheld>,
}

/// A step that the repository has, or gets.
struct Entry {
    name: StepName,
    manifest: Vec<u8>,
    /// `None` if the repository has the manifest.
    new: Option<SharedStep>,
    /// Blobs that the repository may lack.
    blobs: BTreeMap<Blob, Source>,
}

/// Where the bytes of a blob are.
enum Source {
    Layer(Layer),
    Document(Vec<u8>),
}

impl Entry {
    /// Keeps the published manifest, if it names the same blobs.
    fn or_as(self, there: &SharedStep, manifest: Vec<u8>) -> Self {
        let blobs = |step: &SharedStep| step.layers.iter().map(Blob::from).collect::<Vec<_>>();
        match self.new.as_ref().is_some_and(|new| blobs(new) == blobs(there)) {
            true => Self { manifest, new: None, ..self },
            false => self,
        }
    }
}

impl Publisher<'_> {
    /// Publishes the steps of `plan` in `built` (all of them, lowest first), without those that
    /// depend on secrets. A step that the repository has costs one request. Blobs come before the
    /// manifests that name them, so an interrupted call leaves no manifest without its blobs.
    ///
    /// If the store has a blob of a layer in `encoding`, that blob is published, so that images and
    /// steps share it.
    ///
    /// # Errors
    /// If the registry or the store fails.
    pub fn publish(
        &self,
        ports: &Ports<'_>,
        plan: &Plan,
        built: &[BuiltStep],
        encoding: Encoding,
    ) -> Result<Publication, RemoteError> {
        let steps: Vec<_> = plan.all_steps().take(built.len()).collect();
        let (count, withheld) = publishable(steps.iter().copied());
        let records = records(ports.store, plan, &steps[..count], built)?;
        let (there, index) = self.look(plan, &records)?;
        let mut entries = Vec::with_capacity(count);
        for (((step, record), there), built) in steps.iter().zip(&records).zip(there).zip(built) {
            let there = there.and_then(|manifest| Some((self.good(&manifest, record)?, manifest)));
            let prepare = || self.prepare(ports, plan, step, record, encoding);
            entries.push(match there {
                // This step was built although it is published: the registry may have lost its
                // blobs.
                Some((there, manifest)) if built.found.is_none() => prepare()?.or_as(&there, manifest),
                Some((_, manifest)) => {
                    Entry { name: step.name.clone(), manifest, new: None, blobs: BTreeMap::new() }
                }
                None => prepare()?,
            });
        }
        self.send(&entries)?;
        self.to.publish(&step_manifests(&entries))?;
        // After the manifests, because an index may only name manifests that the repository has.
        self.to
            .publish(index_of(plan, &entries).filter(|new| index.as_ref() != Some(&new.bytes)).as_slice())?;
        let new = entries.iter().filter(|entry| entry.new.is_some()).count();
        Ok(Publication { steps: count, new, withheld })
    }

    /// Returns the manifests under the tags of these steps, and the index under the tag of the
    /// image.
    #[expect(clippy::type_complexity, reason = "two kinds of documents from one look")]
    fn look(
        &self,
        plan: &Plan,
        records: &[Record],
    ) -> Result<(Vec<Option<Vec<u8>>>, Option<Vec<u8>>), RemoteError> {
        let tags = records.iter().map(|record| StepKey::Input(record.input_key).tag());
        let tags: Vec<_> = tags.chain([image_tag(&plan.image)]).map(TagOrDigest::from).collect();
        let mut there = self.to.manifests(&tags).into_iter().collect::<Result<Vec<_>, _>>()?;
        let index = there.pop().flatten();
        Ok((there, index))
    }

    /// Returns the published form of a step if it can stay: other build hosts would find the same
    /// layers by it, and trust it as they trust this publisher.
    fn good(&self, manifest: &[u8], record: &Record) -> Option<SharedStep> {
        let own = self.key.map(SigningKey::public);
        let policy = Policy {
            keys: self.policy.keys.iter().copied().chain(own).collect(),
            requirement: if own.is_some() { Requirement::Required } else { self.policy.requirement },
        };
        let there = SharedStep::from_manifest(manifest, &StepKey::Input(record.input_key), &policy);
        there.ok().filter(|SharedStep { record: there, .. }| {
            there.diff_ids == record.diff_ids
                && there.content_key == record.content_key
                && there.evidence == record.evidence.as_ref().map(Evidence::published)
        })
    }

    fn prepare(
        &self,
        ports: &Ports<'_>,
        plan: &Plan,
        step: &Step,
        record: &Record,
        encoding: Encoding,
    ) -> Result<Entry, RemoteError> {
        let (layers, config) = match step.imported_base() {
            Some(source) => {
                let base = ports.store.base_image(source, plan.architecture)?;
                // Its manifest names these blobs, so no other encoding can stand in for them.
                if let Some(damaged) = base.layers.iter().find(|layer| self.damaged.contains(&layer.blob)) {
                    return Err(self.keeps_damaged(step, damaged.blob));
                }
                (base.layers, Some(base.config))
            }
            None => {
                let held = record.diff_ids.iter().map(|diff_id| self.held(step, diff_id, encoding));
                (held.collect::<Result<Vec<_>, _>>()?, None)
            }
        };
        let blobs = layers.iter().map(|layer| (layer.into(), Source::Layer(layer.clone())));
        let documents = [config.clone(), Some(EMPTY.to_vec())].into_iter().flatten();
        let documents = documents.map(|document| (Blob::of(&document), Source::Document(document)));
        let blobs = blobs.chain(documents).collect();
        let shared = SharedStep::new(record, layers, config.as_deref().map(Blob::of), self.now);
        let manifest = shared.to_manifest(self.key);
        Ok(Entry { name: step.name.clone(), manifest, new: Some(shared), blobs })
    }

    /// Returns a layer of `step` with a blob that the repository can serve.
    fn held(&self, step: &Step, diff_id: &DiffId, encoding: Encoding) -> Result<Layer, RemoteError> {
        let held = self.blobs.held(diff_id, encoding)?;
        if !self.damaged.contains(&held.blob) {
            return Ok(held);
        }
        // Encoding takes time, so blobs that the store has come first.
        for other in [Encoding::Zstd, Encoding::Gzip, Encoding::None] {
            let layer = self.blobs.encoded(diff_id, other)?;
            if !self.damaged.contains(&layer.blob) {
                return Ok(layer);
            }
        }
        // A manifest that names the damaged blob would look published, and no machine could use it.
        Err(self.keeps_damaged(step, held.blob))
    }

    fn keeps_damaged(&self, step: &Step, digest: Digest) -> RemoteError {
        RemoteError::KeepsDamaged { repository: self.to.name().to_owned(), step: step.name.clone(), digest }
    }

    fn send(&self, entries: &[Entry]) -> Result<(), RemoteError> {
        let sources: BTreeMap<_, _> = entries.iter().flat_map(|entry| &entry.blobs).collect();
        let open = |blob: &Blob| -> Result<Box<dyn Read + '_>, StoreError> {
            match sources[blob] {
                Source::Layer(layer) => self.blobs.open(layer),
                Source::Document(bytes) => Ok(Box::new(bytes.as_slice())),
            }
        };
        let blobs: Vec<_> = sources.keys().map(|blob| **blob).collect();
        if blobs.is_empty() { Ok(()) } else { self.to.send(&blobs, &open) }
    }
}

/// Returns the records of the lowest steps of a plan, as they were built or found.
fn records(
    store: &dyn LayerStore,
    plan: &Plan,
    steps: &[&Step],
    built: &[BuiltStep],
) -> Result<Vec<Record>, StoreError> {
    let mut stack = Vec::new();
    let record = |(step, built): (&&Step, &BuiltStep)| {
        let record = step.record(&plan.image, &stack, built.diff_ids.clone());
        stack.extend_from_slice(&built.diff_ids);
        // Only the store knows which host files the hooks have read.
        let stored = store.by_input(record.input_key)?;
        let is_it = |stored: &Record| {
            (stored.content_key, &stored.diff_ids) == (record.content_key, &record.diff_ids)
        };
        let evidence = stored.filter(is_it).and_then(|stored| stored.evidence);
        Ok(Record { evidence, ..record })
    };
    steps.iter().zip(built).map(record).collect()
}

/// Returns the manifests of new steps, under both their keys.
fn step_manifests(entries: &[Entry]) -> Vec<Tagged> {
    let new = entries.iter().filter_map(|entry| Some((entry.new.as_ref()?, &entry.manifest)));
    let tagged = |(new, manifest): (&SharedStep, &Vec<u8>)| {
        let bytes = manifest.clone();
        new.keys().map(|key| Tagged { tag: key.tag(), media_type: MANIFEST, bytes: bytes.clone() })
    };
    new.flat_map(tagged).collect()
}

/// Returns the index of the steps of the image; `None` if no step is published.
fn index_of(plan: &Plan, entries: &[Entry]) -> Option<Tagged> {
    let steps = entries.iter().map(|entry| (&entry.name, entry.manifest.as_slice()));
    let index = Tagged { tag: image_tag(&plan.image), media_type: INDEX, bytes: image_index(steps) };
    (!entries.is_empty()).then_some(index)
}
