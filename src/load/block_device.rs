//! Reads the description of an image's disk.

use std::path::Path;
use std::sync::Arc;

use super::LoadError;
use crate::directory::read_text;
use crate::disk::{BlockDevices, DiskSource, RootParameters};
use crate::element::Element;

/// Reads the block-device file that `source` names. A path of the build host is relative to `dir`.
///
/// # Errors
/// If the file cannot be read, or does not describe a valid disk.
pub fn load_block_devices(
    source: DiskSource<'_>,
    dir: &Path,
    elements: &[Arc<Element>],
    parameters: &RootParameters,
) -> Result<BlockDevices, LoadError> {
    let (name, text) = match source {
        DiskSource::Text(text) => (DiskSource::VARIABLE.to_owned(), text.to_owned()),
        DiskSource::Bare => ("plywood's bare disk".to_owned(), DiskSource::BARE.to_owned()),
        DiskSource::File(file) => {
            let path = dir.join(file);
            let text = read_text(&path).map_err(LoadError::io("read", &path))?;
            (path.display().to_string(), text)
        }
        DiskSource::Element { element, file } => {
            let element = elements.iter().find(|other| other.name.as_str() == element);
            let path = element.map(|element| element.root.join(file)).unwrap_or_default();
            let text = element.and_then(|element| element.text(file)).unwrap_or_default();
            (path.display().to_string(), String::from_utf8_lossy(text).into_owned())
        }
    };
    Ok(BlockDevices::parse(&name, &text, parameters)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn an_error_names_the_file_the_element_or_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("disk.yaml"), "- oops: {}\n").unwrap();
        let elements = [Arc::new(element("mine").file("block-device-default.yaml", "- oops: {}\n").build())];
        let load = |source| {
            let loaded = load_block_devices(source, dir.path(), &elements, &RootParameters::default());
            loaded.map_err(|error| error.to_string())
        };
        assert!(load(DiskSource::Bare).is_ok());
        let of = DiskSource::Element { element: "mine", file: "block-device-default.yaml" };
        for (source, start) in [
            (DiskSource::File("disk.yaml"), format!("{}/disk.yaml:1:3: `oops` is", dir.path().display())),
            (DiskSource::Text("- oops: {}"), "DIB_BLOCK_DEVICE_CONFIG:1:3: `oops` is".to_owned()),
            (of, format!("{}/block-device-default.yaml:1:3: `oops` is", elements[0].root.display())),
            (DiskSource::File("gone.yaml"), format!("cannot read `{}/gone.yaml`", dir.path().display())),
        ] {
            let error = load(source).unwrap_err();
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
