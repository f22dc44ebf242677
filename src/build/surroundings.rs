//! The caller's directories, as hooks of the final stage see them.

use std::path::{Path, PathBuf};

use crate::port::{Access, Bind};

/// Directories of the caller that hooks on the host may write to in the final stage, as those of
/// diskimage-builder do: kernels beside an image, manifests, whole images of their own. And one for
/// downloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The working directory of the caller and of these hooks.
    pub directory: PathBuf,
    /// The directory of outputs, and others that the caller names for files of hooks.
    pub further: Vec<PathBuf>,
    /// The directory that hooks of all phases see as `DIB_IMAGE_CACHE`, in place of the store's.
    pub cache: Option<PathBuf>,
}

impl Surroundings {
    /// Returns the mounts through which a job sees them, each at its own path.
    pub(super) fn binds(&self) -> impl Iterator<Item = Bind> {
        let mut seen: Vec<&Path> = vec![&self.directory];
        for path in &self.further {
            if !seen.iter().any(|outer| path.starts_with(outer)) {
                seen.push(path);
            }
        }
        seen.into_iter().map(|path| Bind {
            source: path.to_owned(),
            target: path.to_string_lossy().into_owned(),
            access: Access::ReadWrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_inside_another_is_seen_with_it() {
        let targets = |directory: &str, further: &[&str]| -> Vec<String> {
            let further = further.iter().map(PathBuf::from).collect();
            let surroundings = Surroundings { directory: directory.into(), further, cache: None };
            surroundings.binds().map(|bind| bind.target).collect()
        };
        assert_eq!(targets("/srv", &["/srv/out"]), ["/srv"]);
        assert_eq!(targets("/srv", &["/images", "/images/x.d", "/logs"]), ["/srv", "/images", "/logs"]);
        assert_eq!(targets("/srv", &["/srv"]), ["/srv"]);
    }
}
