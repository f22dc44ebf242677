//! A shared step as an OCI artifact manifest.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType};
use serde_json::Value;

use super::{Refusal, SharedStep, StepKey};
use crate::layer::Encoding;
use crate::oci::{Digest, canonical_json, descriptor};
use crate::plan::{BEHAVIOUR_VERSION, Evidence, KeyFields, Record};
use crate::port::{Blob, Layer};
use crate::trust::{Policy, Purpose, Signature, SigningKey};

/// The artifact type of a published step.
pub const ARTIFACT_TYPE: &str = "application/vnd.plywood.step.v1";

/// The content of the empty config, and of the only layer of a step without layers.
///
/// Source: OCI image-spec v1.1, `manifest.md`, "Guidance for an Empty Descriptor".
pub const EMPTY: &[u8] = b"{}";

const STEP: &str = "plywood.step";
const IMAGE: &str = "plywood.image";
const INPUT_KEY: &str = "plywood.input-key";
const CONTENT_KEY: &str = "plywood.content-key";
const PARENT_KEY: &str = "plywood.parent-key";
const FIELDS: &str = "plywood.fields";
const HOST: &str = "plywood.host";
const BEHAVIOUR: &str = "plywood.behaviour";
const CREATED: &str = "org.opencontainers.image.created";
const SIGNATURE: &str = "plywood.signature";
/// Container engines run at most this many layers. The limit stops a hostile registry from naming
/// more.
const MAX_LAYERS: usize = 127;
const DIFF_ID: &str = "plywood.diff-id";
const TAR_BYTES: &str = "plywood.tar-bytes";
const ENTRIES: &str = "plywood.entries";

/// Returns the descriptor of [`EMPTY`].
fn empty_descriptor() -> Descriptor {
    descriptor(MediaType::EmptyJSON.as_ref(), &Digest::of(EMPTY), EMPTY.len() as u64)
}

impl SharedStep {
    /// Returns the manifest of the step in canonical JSON, signed if there is a key. The same step,
    /// time and key always give the same bytes.
    pub fn to_manifest(&self, key: Option<&SigningKey>) -> Vec<u8> {
        let layers: Vec<_> = self.layers.iter().map(layer_descriptor).collect();
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::from(ARTIFACT_TYPE))
            .config(self.config.as_ref().map_or_else(empty_descriptor, config_descriptor))
            .layers(if layers.is_empty() { vec![empty_descriptor()] } else { layers })
            .annotations(self.annotations())
            .build()
            .expect("every required field is set");
        let statement = canonical_json(&manifest);
        let Some(key) = key else { return statement };
        let signature = Signature::new(key, Purpose::Step, &statement);
        // After signing: the signed bytes are those of the manifest without its signature.
        let mut manifest = serde_json::to_value(&manifest).expect("it was serialised above");
        manifest["annotations"][SIGNATURE] = signature.to_string().into();
        canonical_json(&manifest)
    }

    /// Reads the manifest that a registry has under `key`.
    ///
    /// # Errors
    /// [`Refusal`] if it is the manifest of something else, or if `policy` rejects its signature.
    pub fn from_manifest(bytes: &[u8], key: &StepKey, policy: &Policy) -> Result<Self, Refusal> {
        let step = Self::read(bytes, policy)?;
        match step.answers(key) {
            true => Ok(step),
            false => Err(Refusal::OtherStep { asked: *key }),
        }
    }

    /// Reads the manifest of any step.
    ///
    /// # Errors
    /// As [`SharedStep::from_manifest`].
    pub fn read(bytes: &[u8], policy: &Policy) -> Result<Self, Refusal> {
        let mut document: Value =
            serde_json::from_slice(bytes).map_err(|error| Refusal::malformed(error.to_string()))?;
        let signature =
            document.get_mut("annotations").and_then(|all| all.as_object_mut()?.remove(SIGNATURE));
        // Parsed from the value whose canonical bytes are verified. A second parse of the raw bytes
        // could choose another one of two duplicate keys than the signature covers.
        let statement = canonical_json(&document);
        let step = parse(document)?;
        let signature = signature.as_ref().map(|signature| signature.as_str().unwrap_or_default());
        policy.judge(Purpose::Step, &statement, signature).map_err(Refusal::Distrusted)?;
        Ok(step)
    }

    fn annotations(&self) -> HashMap<String, String> {
        let Record { step, image, input_key, content_key, parent, fields, diff_ids: _, evidence } =
            &self.record;
        let fields: BTreeMap<_, _> =
            fields.fields().iter().map(|field| (&field.label, &field.value)).collect();
        let fields = String::from_utf8(canonical_json(&fields)).expect("JSON is UTF-8");
        let parent = parent.map(|key| (PARENT_KEY, key.to_string()));
        let all = [
            (STEP, step.to_string()),
            (IMAGE, image.clone()),
            (INPUT_KEY, input_key.to_string()),
            (CONTENT_KEY, content_key.to_string()),
            (FIELDS, fields),
            (BEHAVIOUR, BEHAVIOUR_VERSION.to_string()),
            (CREATED, jiff::Timestamp::from_second(self.created).unwrap_or_default().to_string()),
        ];
        let json = |evidence| String::from_utf8(canonical_json(evidence)).expect("JSON is UTF-8");
        let host = evidence.as_ref().map(|evidence| (HOST, json(evidence)));
        all.into_iter().chain(parent).chain(host).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn config_descriptor(config: &Blob) -> Descriptor {
    descriptor(MediaType::ImageConfig.as_ref(), &config.digest, config.bytes)
}

fn layer_descriptor(layer: &Layer) -> Descriptor {
    let mut described = descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes);
    let annotations = [
        (DIFF_ID, layer.diff_id.to_string()),
        (TAR_BYTES, layer.tar_bytes.to_string()),
        (ENTRIES, layer.entries.to_string()),
    ];
    described.set_annotations(Some(annotations.map(|(name, value)| (name.to_owned(), value)).into()));
    described
}

fn parse(document: Value) -> Result<SharedStep, Refusal> {
    let manifest: ImageManifest =
        serde_json::from_value(document).map_err(|error| Refusal::malformed(error.to_string()))?;
    let kind = manifest.artifact_type().as_ref().map(ToString::to_string);
    if kind.as_deref() != Some(ARTIFACT_TYPE) {
        return Err(Refusal::malformed(format!("its artifactType is `{}`", kind.unwrap_or_default())));
    }
    let all = Annotations::of(manifest.annotations());
    let layers = manifest.layers().iter().filter(|layer| !is_empty(layer));
    let layers = layers.map(parse_layer).collect::<Result<Vec<_>, _>>()?;
    let config = (!is_empty(manifest.config())).then(|| parse_blob(manifest.config())).transpose()?;
    // Only a base that was imported as layers, which has a config, has more than one layer.
    if layers.len() > if config.is_some() { MAX_LAYERS } else { 1 } {
        return Err(Refusal::malformed(format!("it has {} layers", layers.len())));
    }
    let record = Record {
        step: all.parse(STEP)?,
        image: all.text(IMAGE)?.to_owned(),
        input_key: all.parse(INPUT_KEY)?,
        content_key: all.parse(CONTENT_KEY)?,
        parent: all.0.contains_key(PARENT_KEY).then(|| all.parse(PARENT_KEY)).transpose()?,
        fields: parse_fields(all.text(FIELDS)?)?,
        diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        evidence: all.0.contains_key(HOST).then(|| parse_evidence(all.text(HOST)?)).transpose()?,
    };
    Ok(SharedStep { record, layers, config, created: all.parse::<jiff::Timestamp>(CREATED)?.as_second() })
}

fn parse_fields(text: &str) -> Result<KeyFields, Refusal> {
    let fields: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| Refusal::malformed(format!("annotation `{FIELDS}`: {error}")))?;
    fields.iter().flat_map(|(label, value)| [label, value]).try_for_each(|text| check_text(FIELDS, text))?;
    Ok(KeyFields::new(fields))
}

fn parse_evidence(text: &str) -> Result<Evidence, Refusal> {
    let evidence: Evidence = serde_json::from_str(text)
        .map_err(|error| Refusal::malformed(format!("annotation `{HOST}`: {error}")))?;
    let texts = evidence.reads.iter().flat_map(|read| [&read.path, &read.by]).chain(&evidence.gap);
    texts.into_iter().try_for_each(|text| check_text(HOST, text))?;
    Ok(evidence)
}

/// Refuses control characters: these texts come from a registry, and are shown on terminals, which
/// they could command.
fn check_text(name: &str, text: &str) -> Result<(), Refusal> {
    match text.contains(char::is_control) {
        true => Err(Refusal::malformed(format!("annotation `{name}` holds control characters"))),
        false => Ok(()),
    }
}

fn parse_layer(layer: &Descriptor) -> Result<Layer, Refusal> {
    let media_type = layer.media_type().to_string();
    let encoding = Encoding::of_media_type(&media_type)
        .ok_or_else(|| Refusal::malformed(format!("`{media_type}` is not the media type of a layer")))?;
    let Blob { digest: blob, bytes: blob_bytes } = parse_blob(layer)?;
    let all = Annotations::of(layer.annotations());
    Ok(Layer {
        diff_id: all.parse(DIFF_ID)?,
        tar_bytes: all.parse(TAR_BYTES)?,
        entries: all.parse(ENTRIES)?,
        blob,
        blob_bytes,
        encoding,
    })
}

fn parse_blob(blob: &Descriptor) -> Result<Blob, Refusal> {
    let digest = blob.digest().to_string().parse();
    let digest = digest.map_err(|error: crate::oci::DigestError| Refusal::malformed(error.to_string()))?;
    Ok(Blob { digest, bytes: blob.size() })
}

fn is_empty(blob: &Descriptor) -> bool {
    *blob.media_type() == MediaType::EmptyJSON
}

struct Annotations<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Annotations<'a> {
    fn of(annotations: &'a Option<HashMap<String, String>>) -> Self {
        let all = annotations.iter().flatten();
        Self(all.map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    fn text(&self, name: &str) -> Result<&'a str, Refusal> {
        let missing = || Refusal::malformed(format!("annotation `{name}` is missing"));
        let text = self.0.get(name).copied().ok_or_else(missing)?;
        check_text(name, text).map(|()| text)
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Refusal> {
        let text = self.text(name)?;
        text.parse().map_err(|error| Refusal::malformed(format!("annotation `{name}`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ChainId, DiffId};
    use crate::plan::fixture::Image;
    use crate::trust::{Distrust, Requirement};

    fn layer(name: &str) -> Layer {
        let (diff_id, blob) = (DiffId::new(Digest::of(name)), Digest::of(format!("{name} blob")));
        Layer { diff_id, tar_bytes: 10_240, entries: 3, blob, blob_bytes: 512, encoding: Encoding::Zstd }
    }

    /// Returns the step `web` of the fixture with `layers`.
    fn shared(layers: &[Layer]) -> SharedStep {
        let plan = Image::full().plan();
        let step = plan.steps.iter().find(|step| step.name == "web").unwrap();
        let record = Record {
            step: step.name.clone(),
            image: plan.image.clone(),
            input_key: step.input_key,
            content_key: step.content_key(Some(ChainId::new(Digest::of("below")))),
            parent: step.parent,
            fields: step.fields.clone(),
            diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
            evidence: None,
        };
        SharedStep::new(&record, layers.to_vec(), None, 1_700_000_000)
    }

    fn trusting(key: &SigningKey) -> Policy {
        Policy { keys: [key.public()].into(), requirement: Requirement::Required }
    }

    #[test]
    fn a_step_is_read_back_by_either_key_and_its_manifest_is_reproducible() {
        let key = SigningKey::new([1; 32]);
        let mut base = shared(&[layer("a"), layer("b")]);
        base.config = Some(Blob::of(b"config"));
        base.record.parent = None;
        for step in [shared(&[]), shared(&[layer("a")]), base] {
            for signed in [None, Some(&key)] {
                let bytes = step.to_manifest(signed);
                assert_eq!(bytes, step.to_manifest(signed));
                for asked in step.keys() {
                    let read = SharedStep::from_manifest(&bytes, &asked, &Policy::default());
                    assert_eq!(read.as_ref(), Ok(&step));
                }
                let read = SharedStep::from_manifest(&bytes, &step.keys()[0], &trusting(&key));
                let unsigned = Refusal::Distrusted(Distrust::Unsigned);
                assert_eq!(read, if signed.is_some() { Ok(step.clone()) } else { Err(unsigned) });
            }
        }
    }

    #[test]
    fn a_manifest_has_no_value_of_a_variable() {
        let text = String::from_utf8(shared(&[]).to_manifest(None)).unwrap();
        assert!(
            text.contains("variable DIB_WEB_PASSWORD") && text.contains("file install.d/50-web"),
            "{text}"
        );
        for value in ["hunter2", "web.conf, absent.conf"] {
            assert!(!text.contains(value), "{text}");
        }
    }

    /// Every change of a signed manifest breaks its signature.
    #[test]
    fn every_part_of_a_manifest_is_signed() {
        let key = SigningKey::new([1; 32]);
        let step = shared(&[layer("a")]);
        let original: Value = serde_json::from_slice(&step.to_manifest(Some(&key))).unwrap();
        let other = Digest::of("other").to_string();
        let changes: [(&str, Value); 9] = [
            ("/layers/0/digest", other.clone().into()),
            ("/layers/0/size", 513.into()),
            ("/layers/0/mediaType", Encoding::Gzip.media_type().into()),
            ("/layers/0/annotations/plywood.diff-id", other.clone().into()),
            ("/annotations/plywood.content-key", other.clone().into()),
            ("/annotations/plywood.parent-key", other.into()),
            ("/annotations/plywood.step", "tools".into()),
            ("/annotations/plywood.behaviour", "999".into()),
            ("/layers", Value::Array(Vec::new())),
        ];
        let asked = StepKey::Input(step.record.input_key);
        for (path, value) in changes {
            let mut changed = original.clone();
            *changed.pointer_mut(path).unwrap() = value;
            let bytes = serde_json::to_vec(&changed).unwrap();
            for policy in [trusting(&key), Policy::default()] {
                let refusal = SharedStep::from_manifest(&bytes, &asked, &policy).unwrap_err();
                assert_eq!(refusal, Refusal::Distrusted(Distrust::Forged { key: key.public() }), "{path}");
            }
        }
        let spaced = serde_json::to_vec_pretty(&original).unwrap();
        assert_eq!(
            SharedStep::from_manifest(&spaced, &asked, &trusting(&key)),
            Ok(step),
            "white space does not matter"
        );
    }

    #[test]
    fn a_key_that_is_mapped_to_another_step_is_refused() {
        let key = SigningKey::new([1; 32]);
        let step = shared(&[layer("a")]);
        let asked = StepKey::Content(crate::plan::ContentKey::new(Digest::of("asked")));
        let read = SharedStep::from_manifest(&step.to_manifest(Some(&key)), &asked, &trusting(&key));
        assert_eq!(read, Err(Refusal::OtherStep { asked }));
    }

    #[test]
    fn malformed_manifests_are_refused_with_the_reason() {
        let good = String::from_utf8(shared(&[layer("a")]).to_manifest(None)).unwrap();
        let image = crate::oci::image_manifest(b"{}", Vec::new(), &BTreeMap::new());
        let cases = [
            (b"<html>".to_vec(), "expected value"),
            (image, "its artifactType is ``"),
            (good.replace("plywood.diff-id", "x").into(), "annotation `plywood.diff-id` is missing"),
            (
                good.replace("\"vm\"", "\"\\u001b[2J\"").into(),
                "annotation `plywood.image` holds control characters",
            ),
            (good.replace("\"10240\"", "\"-1\"").into(), "annotation `plywood.tar-bytes`: invalid digit"),
            (good.replace("tar+zstd", "tar+xz").into(), "is not the media type of a layer"),
            (shared(&[layer("a"), layer("b")]).to_manifest(None), "it has 2 layers"),
        ];
        let asked = StepKey::Input(shared(&[]).record.input_key);
        for (bytes, reason) in cases {
            let refusal = SharedStep::from_manifest(&bytes, &asked, &Policy::default()).unwrap_err();
            assert!(refusal.to_string().contains(reason), "{refusal}");
        }
    }
}
