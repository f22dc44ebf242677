//! Image configs: new ones, and continued ones of base images.
//!
//! plywood edits the config of a base as JSON. Reading it into a type and writing it again would
//! lose the fields that the type lacks: health checks, `OnBuild`, `Shell`, and future ones.
//!
//! Source: OCI image-spec v1.1, `config.md`.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde_json::{Map, Value, json};

use super::{DiffId, canonical_json};

/// A document that is not an image config, or a config that cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It does not have the form of the specification.
    #[error("the image config is not valid")]
    Invalid(#[source] oci_spec::OciSpecError),
    /// A DiffID in it is not a SHA-256 digest.
    #[error("the image config has a DiffID that plywood cannot read")]
    DiffId(#[from] super::DigestError),
    /// The source date epoch is out of range.
    #[error("the source date epoch {seconds} is out of range for the date in an image config")]
    Epoch { seconds: i64 },
}

/// An image for another platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image is for {found}: expected linux/{wanted}")]
pub struct OtherPlatform {
    found: String,
    wanted: String,
}

/// Fails for the config of an image for another platform than Linux on `architecture` (as Go writes
/// it: `amd64`). Accepts a config without a platform: old versions of `docker import` wrote none.
///
/// # Errors
/// [`OtherPlatform`].
pub fn refuse_other_platform(config: &[u8], architecture: &str) -> Result<(), OtherPlatform> {
    // The caller parses the config next and reports malformed JSON.
    let document: Value = serde_json::from_slice(config).unwrap_or_default();
    let said = |key: &str, wanted: &str| match document[key].as_str() {
        None | Some("") => wanted.to_owned(),
        Some(said) => said.escape_debug().to_string(),
    };
    let found = format!("{}/{}", said("os", "linux"), said("architecture", architecture));
    match found == format!("linux/{architecture}") {
        true => Ok(()),
        false => Err(OtherPlatform { found, wanted: architecture.to_owned() }),
    }
}

/// The settings of containers of the image. `None` and absent names keep the value of the base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    pub env: BTreeMap<String, String>,
    /// The program and its first arguments. Setting it removes the `cmd` of the base, whose
    /// arguments are for another program.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the program if there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// User or `user:group`, by name or number.
    pub user: Option<String>,
    /// Working directory, absolute.
    pub working_dir: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// The `PATH` of a shell on Debian. plywood always sets it, because containerd has a default only
/// for configs without any variable.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns true if the config has a program, so that a container runs without a command line.
pub fn has_command(config: &[u8]) -> bool {
    let document: Value = serde_json::from_slice(config).unwrap_or_default();
    let has = |name: &str| document["config"][name].as_array().is_some_and(|words| !words.is_empty());
    has("Entrypoint") || has("Cmd")
}

/// Returns the user, or user and group, that containers run as, if the config names one.
pub fn container_user(config: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(config).unwrap_or_default();
    document["config"]["User"].as_str().filter(|user| !user.is_empty()).map(str::to_owned)
}

/// An unfinished image config.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    document: Value,
    created: String,
}

impl ImageConfig {
    /// Starts the config of a Linux image without layers for `architecture` (as Go writes it:
    /// `amd64`). `epoch` is the source date epoch in seconds since 1970, and becomes the date of
    /// creation.
    ///
    /// # Errors
    /// [`ConfigError::Epoch`].
    pub fn new(architecture: &str, epoch: i64) -> Result<Self, ConfigError> {
        let document = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Env": [DEFAULT_PATH] },
            "rootfs": { "type": "layers", "diff_ids": [] },
            "history": [],
        });
        Self::dated(document, epoch)
    }

    /// Continues `base`, the bytes of the config of a base image. Keeps all of its fields.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], [`ConfigError::DiffId`], [`ConfigError::Epoch`].
    pub fn continue_from(base: &[u8], epoch: i64) -> Result<Self, ConfigError> {
        let layers = parse_diff_ids(base)?.len();
        // Cannot fail, because `parse_diff_ids` has parsed it.
        let document = serde_json::from_slice(base).map_err(|error| ConfigError::Invalid(error.into()))?;
        let mut config = Self::dated(document, epoch)?;
        config.repair_history(layers);
        Ok(config)
    }

    fn dated(mut document: Value, epoch: i64) -> Result<Self, ConfigError> {
        let created =
            jiff::Timestamp::from_second(epoch).map_err(|_| ConfigError::Epoch { seconds: epoch })?;
        let created = created.to_string();
        document["created"] = json!(created);
        Ok(Self { document, created })
    }

    /// Adds the layers of one step, lowest first, each with an entry of history; `created_by`
    /// describes the step. A step without layers gets an entry with `empty_layer`.
    pub fn push_step(&mut self, created_by: &str, diff_ids: &[DiffId]) {
        for diff_id in diff_ids {
            list(&mut self.document["rootfs"]["diff_ids"]).push(json!(diff_id));
            self.push_history(json!({ "created": self.created, "created_by": created_by }));
        }
        if diff_ids.is_empty() {
            self.push_history(
                json!({ "created": self.created, "created_by": created_by, "empty_layer": true }),
            );
        }
    }

    /// Applies `settings` over the present ones.
    pub fn apply(&mut self, settings: &ContainerSettings) {
        let ContainerSettings { env, entrypoint, cmd, user, working_dir, labels } = settings;
        let config = object(&mut self.document["config"]);
        merge_env(list(config.entry("Env").or_insert(Value::Null)), env);
        if let Some(entrypoint) = entrypoint {
            config.insert("Entrypoint".to_owned(), json!(entrypoint));
            config.remove("Cmd");
        }
        let single = [
            ("Cmd", cmd.as_ref().map(|cmd| json!(cmd))),
            ("User", user.as_ref().map(|user| json!(user))),
            ("WorkingDir", working_dir.as_ref().map(|directory| json!(directory))),
        ];
        for (name, value) in single {
            if let Some(value) = value {
                config.insert(name.to_owned(), value);
            }
        }
        if !labels.is_empty() {
            let known = object(config.entry("Labels").or_insert(Value::Null));
            known.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        }
    }

    /// Returns the config in canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(&self.document)
    }

    fn push_history(&mut self, entry: Value) {
        list(&mut self.document["history"]).push(entry);
    }

    /// Replaces a history that does not fit the number of layers. Docker refuses such an image;
    /// some bases have no history.
    fn repair_history(&mut self, layers: usize) {
        let history = list(&mut self.document["history"]);
        let told = history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count();
        if told != layers {
            *history = vec![json!({ "created_by": "base image" }); layers];
        }
    }
}

/// Returns the DiffIDs of an image config, lowest first.
///
/// # Errors
/// [`ConfigError::Invalid`], [`ConfigError::DiffId`].
pub fn parse_diff_ids(config: &[u8]) -> Result<Vec<DiffId>, ConfigError> {
    let config = ImageConfiguration::from_reader(config).map_err(ConfigError::Invalid)?;
    Ok(config.rootfs().diff_ids().iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
}

/// Replaces existing variables in place, and appends the others, sorted by name. So the same
/// settings always give the same bytes.
fn merge_env(list: &mut Vec<Value>, env: &BTreeMap<String, String>) {
    for (name, value) in env {
        let new = json!(format!("{name}={value}"));
        let prefix = format!("{name}=");
        match list.iter_mut().find(|old| old.as_str().is_some_and(|old| old.starts_with(&prefix))) {
            Some(old) => *old = new,
            None => list.push(new),
        }
    }
}

/// Returns the object in `value`. Other values become an empty object: some tools write `null`.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it is one now")
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it is one now")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    const EPOCH: i64 = 1_700_000_000;

    fn layer(text: &str) -> DiffId {
        DiffId::new(Digest::of(text))
    }

    fn settings() -> ContainerSettings {
        ContainerSettings {
            env: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "1".to_owned())]),
            entrypoint: Some(vec!["/bin/bash".to_owned()]),
            user: Some("builder".to_owned()),
            working_dir: Some("/work".to_owned()),
            labels: BTreeMap::from([("l".to_owned(), "v".to_owned())]),
            ..ContainerSettings::default()
        }
    }

    #[test]
    fn a_new_config_is_valid_and_reproducible() {
        let mut config = ImageConfig::new("amd64", EPOCH).unwrap();
        config.push_step("base", &[layer("a")]);
        config.push_step("element docs", &[]);
        config.apply(&settings());
        let text = String::from_utf8(config.to_bytes()).unwrap();
        let a = layer("a");
        assert_eq!(
            text,
            format!(
                r#"{{"architecture":"amd64","config":{{"Entrypoint":["/bin/bash"],"Env":["PATH=/bin","A=1"],"Labels":{{"l":"v"}},"User":"builder","WorkingDir":"/work"}},"created":"2023-11-14T22:13:20Z","history":[{{"created":"2023-11-14T22:13:20Z","created_by":"base"}},{{"created":"2023-11-14T22:13:20Z","created_by":"element docs","empty_layer":true}}],"os":"linux","rootfs":{{"diff_ids":["{a}"],"type":"layers"}}}}"#
            )
        );
        assert_eq!(parse_diff_ids(text.as_bytes()).unwrap(), [a]);
    }

    fn base(history: Value) -> Vec<u8> {
        let document = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/bin", "LANG=C"],
                "Cmd": ["old"],
                "Healthcheck": { "Test": ["CMD", "true"] },
                "Labels": null,
            },
            "x-unknown": { "kept": [1] },
            "rootfs": { "type": "layers", "diff_ids": [layer("base")] },
            "history": history,
        });
        serde_json::to_vec(&document).unwrap()
    }

    #[test]
    fn fields_of_a_base_are_kept() {
        let history = json!([{ "created_by": "docker" }, { "created_by": "ENV", "empty_layer": true }]);
        let mut config = ImageConfig::continue_from(&base(history), EPOCH).unwrap();
        config.apply(&settings());
        config.push_step("element a", &[layer("a")]);
        let document = &config.document;
        assert_eq!(document["config"]["Env"], json!(["PATH=/bin", "LANG=C", "A=1"]));
        assert_eq!(document["config"]["Healthcheck"]["Test"], json!(["CMD", "true"]));
        assert_eq!(document["config"].get("Cmd"), None, "it belonged to another entrypoint");
        assert_eq!(document["x-unknown"], json!({ "kept": [1] }));
        assert_eq!(document["rootfs"]["diff_ids"], json!([layer("base"), layer("a")]));
        assert_eq!(document["history"].as_array().unwrap().len(), 3);
        assert_eq!(document["created"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_history_that_does_not_fit_the_layers_is_replaced() {
        for history in [json!([]), json!([{}, {}]), json!([{ "empty_layer": true }])] {
            let config = ImageConfig::continue_from(&base(history), EPOCH).unwrap();
            assert_eq!(config.document["history"], json!([{ "created_by": "base image" }]));
        }
    }

    #[test]
    fn malformed_configs_are_refused() {
        assert!(matches!(ImageConfig::continue_from(b"{}", EPOCH), Err(ConfigError::Invalid(_))));
        let other = String::from_utf8(base(json!([]))).unwrap().replace("sha256:", "sha512:");
        assert!(matches!(ImageConfig::continue_from(other.as_bytes(), EPOCH), Err(ConfigError::DiffId(_))));
        assert!(matches!(ImageConfig::new("amd64", i64::MAX), Err(ConfigError::Epoch { .. })));
    }
}
