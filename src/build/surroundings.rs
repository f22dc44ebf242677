//! The caller's directories, as hooks of the final stage see them.

use std::path::PathBuf;

use crate::port::{Access, Bind};

/// Directories of the caller that hooks on the host may write to in the final stage, as those of diskimage-builder do: kernels
/// beside an image, manifests, whole images of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Where the caller is, and these hooks start.
    pub directory: PathBuf,
    /// Where outputs go.
    pub outputs: PathBuf,
}

impl Surroundings {
    /// Returns what a job needs to see them, each at its own path.
    pub(super) fn binds(&self) -> impl Iterator<Item = Bind> {
        let is_inside = self.outputs.starts_with(&self.directory);
        let outputs = (!is_inside).then_some(&self.outputs);
        [Some(&self.directory), outputs].into_iter().flatten().map(|path| Bind {
            source: path.clone(),
            target: path.to_string_lossy().into_owned(),
            access: Access::ReadWrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_inside_the_other_is_seen_with_it() {
        let targets = |directory: &str, outputs: &str| -> Vec<String> {
            let surroundings = Surroundings { directory: directory.into(), outputs: outputs.into() };
            surroundings.binds().map(|bind| bind.target).collect()
        };
        assert_eq!(targets("/srv", "/srv/out"), ["/srv"]);
        assert_eq!(targets("/srv", "/images"), ["/srv", "/images"]);
        assert_eq!(targets("/srv", "/srv"), ["/srv"]);
    }
}
