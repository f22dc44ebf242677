//! The config of a builder container.

use super::{BuildError, BuiltStep};
use crate::distro::BaseSource;
use crate::image::ContainerSettings;
use crate::oci::{self, ConfigError, ImageConfig};
use crate::plan::Plan;
use crate::port::LayerStore;

/// Returns the config of a container of `plan` with the layers of `steps` (all steps of the plan,
/// the final stage last). It has the values of the base's own config, an entry of history for each
/// step, and the values of `settings`, which override those of the base.
///
/// # Errors
/// If the store does not have the base, or its config cannot be continued.
pub fn container_config(
    plan: &Plan,
    steps: &[BuiltStep],
    settings: &ContainerSettings,
    store: &dyn LayerStore,
) -> Result<Vec<u8>, BuildError> {
    let failed = |source| BuildError::Config { image: plan.image.clone(), source };
    let mut config = match plan.foundation.base().map(|base| &base.source) {
        None | Some(BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_)) => {
            bootstrapped(plan, steps).map_err(failed)?
        }
        Some(source) => {
            let base = store.base_image(source, plan.architecture)?;
            ImageConfig::continue_from(&base.config, plan.source_date_epoch).map_err(failed)?
        }
    };
    for step in steps.iter().skip(1) {
        config.push_step(&step.name.describe(), &step.diff_ids);
    }
    config.apply(&overrides(settings));
    Ok(config.to_bytes())
}

fn bootstrapped(plan: &Plan, steps: &[BuiltStep]) -> Result<ImageConfig, ConfigError> {
    let (architecture, _) = plan.architecture.oci();
    let mut config = ImageConfig::new(architecture, plan.source_date_epoch)?;
    for base in steps.iter().take(1) {
        config.push_step(&base.name.describe(), &base.diff_ids);
    }
    Ok(config)
}

/// Returns the settings of an image's container. An empty list counts as unset.
fn overrides(settings: &ContainerSettings) -> oci::ContainerSettings {
    let words = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    oci::ContainerSettings {
        env: settings.env.clone(),
        entrypoint: words(&settings.entrypoint),
        cmd: words(&settings.cmd),
        user: settings.user.clone(),
        working_dir: settings.workdir.clone(),
        labels: settings.labels.clone(),
    }
}
