//! Combines a command line and the caller's environment into a build request.

use std::collections::BTreeSet;

use super::arguments::Arguments;
use super::breaks::BreakPoints;
use super::checksum::wanted;
use super::command::Command;
use super::output::{OldImage, OutputName, OutputType, OutputTypeError};
use super::usage::UsageReport;
use super::variables::{Environment, for_hooks, number, text};
use crate::distro::{Architecture, ArchitectureError};
use crate::element::{ElementName, ElementNameError};
use crate::image::OutputFormat;
use crate::image::{Checksum, Qcow2Compression};
use crate::plan::is_secret;

/// A complete request of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    pub command: Command,
    pub name: OutputName,
    /// The base of log and identity names. It stays the same for callers who number their images.
    pub title: String,
    /// The requested elements, including those that diskimage-builder adds.
    pub elements: Vec<ElementName>,
    /// The search path of elements, before plywood's own.
    pub element_path: Vec<String>,
    /// The output types, without duplicates.
    pub types: Vec<OutputType>,
    pub architecture: Architecture,
    /// Packages in addition to those of the elements.
    pub packages: Vec<String>,
    /// The checksum files to write beside disks.
    pub checksums: BTreeSet<Checksum>,
    pub compression: Qcow2Compression,
    /// Options of `qemu-img convert -o`.
    pub qemu_img_options: Option<String>,
    /// The repository and tag in the Docker engine.
    pub docker_target: Option<String>,
    /// The file that becomes the manifest of an App Container Image.
    pub aci_manifest: Option<String>,
    /// Additional options of mkfs for the root file system.
    pub mkfs_options: Option<String>,
    pub root_label: Option<String>,
    /// The directory of manifests, if it is not `NAME.d`.
    pub manifests: Option<String>,
    /// The directory in which hooks on the host keep downloads, if it is not in the store.
    pub image_cache: Option<String>,
    /// The report of file sizes, if one is requested.
    pub usage: Option<UsageReport>,
    /// The treatment of an existing image of the same name.
    pub old_image: OldImage,
    /// The break points of the build.
    pub breaks: BreakPoints,
    /// The variables that hooks may see.
    pub variables: Environment,
}

/// An invalid call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("At least one distribution root element must be specified")]
    NoElements,
    #[error(transparent)]
    Element(#[from] ElementNameError),
    #[error(transparent)]
    Type(#[from] OutputTypeError),
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    #[error("Please set --docker-target.")]
    NoDockerTarget,
    #[error("cannot build with {name}=`{value}`: {reason}")]
    Unsupported { name: &'static str, value: String, reason: &'static str },
    #[error("output name `{0}` has no last component: pass a file name without its extension with `-o`")]
    NoName(String),
}

impl BuildRequest {
    /// Combines arguments and environment, on a build host of this architecture.
    ///
    /// # Errors
    /// [`RequestError`], with diskimage-builder's texts where it has some.
    pub fn new(
        command: Command,
        arguments: &Arguments,
        caller: &Environment,
        machine: Architecture,
    ) -> Result<Self, RequestError> {
        if arguments.elements.is_empty() {
            return Err(RequestError::NoElements);
        }
        let types = arguments.types.clone().unwrap_or_else(|| vec!["qcow2".to_owned()]);
        let name = arguments.name.as_deref().or(text(caller, "IMAGE_NAME")).unwrap_or("image");
        let name = OutputName::new(name, &types);
        if name.base().is_empty() {
            return Err(RequestError::NoName(name.as_str().to_owned()));
        }
        let outputs = output_types(&types)?;
        let docker_target = arguments.docker_target.clone().filter(|target| !target.is_empty());
        if outputs.contains(&OutputType::Docker) && docker_target.is_none() {
            return Err(RequestError::NoDockerTarget);
        }
        let architecture = architecture(arguments, caller, machine)?;
        refuse_unsupported(caller, &outputs)?;
        Ok(Self {
            command,
            title: title(text(caller, "DIB_IMAGE_NAME").unwrap_or(name.base())),
            elements: start_list(command, arguments, caller, architecture)?,
            element_path: element_path(caller),
            types: outputs,
            architecture,
            packages: arguments.packages.clone(),
            checksums: wanted(&checksum(arguments, caller)),
            compression: match arguments.uncompressed {
                true => Qcow2Compression::None,
                false => Qcow2Compression::Zlib,
            },
            qemu_img_options: given(&arguments.qemu_img_options, caller, "QEMU_IMG_OPTIONS"),
            docker_target,
            aci_manifest: text(caller, "ACI_MANIFEST").map(str::to_owned),
            mkfs_options: arguments.mkfs_options.clone().filter(|options| !options.is_empty()),
            root_label: given(&arguments.root_label, caller, "ROOT_LABEL"),
            manifests: text(caller, "DIB_MANIFEST_SAVE_DIR").map(str::to_owned),
            image_cache: given(&arguments.image_cache, caller, "DIB_IMAGE_CACHE"),
            usage: UsageReport::of(caller),
            old_image: OldImage::of(caller),
            breaks: BreakPoints::of(caller),
            variables: variables(command, arguments, caller, architecture, &name),
            name,
        })
    }

    /// Returns the variables for hooks, and two more that configure the disk.
    pub fn disk_variables(&self) -> Environment {
        let own = [("MKFS_OPTS", &self.mkfs_options), ("ROOT_LABEL", &self.root_label)];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        self.variables.clone().into_iter().chain(own).collect()
    }

    /// Returns true if no disk is written: an element writes the image itself, or the image is a
    /// ramdisk.
    pub fn is_without_disk<'a>(&self, elements: impl IntoIterator<Item = &'a str>) -> bool {
        let mut elements = elements.into_iter();
        self.command == Command::RamdiskImageCreate || elements.any(|name| name == "no-final-image")
    }
}

/// Refuses variables that plywood would have to ignore although the caller relies on them.
fn refuse_unsupported(caller: &Environment, outputs: &[OutputType]) -> Result<(), RequestError> {
    const USUAL_NAMES: &str = "^[0-9A-Za-z_-]+$";
    const GZIPS: [&str; 3] = ["gzip", "pigz", "igzip"];
    let refused =
        |name, value: &str, reason| Err(RequestError::Unsupported { name, value: value.to_owned(), reason });
    if let Some(value) = text(caller, "RUN_PARTS_REGEX").filter(|value| *value != USUAL_NAMES) {
        return refused(
            "RUN_PARTS_REGEX",
            value,
            "plywood runs only hooks whose names consist of letters, digits, `-` and `_`: unset it, and rename other hooks",
        );
    }
    let compressor =
        text(caller, "DIB_GZIP_BIN").filter(|_| outputs.contains(&OutputType::File(OutputFormat::Tgz)));
    match compressor {
        Some(value) if !GZIPS.contains(&value.rsplit('/').next().unwrap_or(value)) => {
            refused("DIB_GZIP_BIN", value, "plywood compresses a tgz itself, in the gzip format: unset it")
        }
        _ => Ok(()),
    }
}

fn given(argument: &Option<String>, caller: &Environment, name: &str) -> Option<String> {
    argument.clone().filter(|value| !value.is_empty()).or_else(|| text(caller, name).map(str::to_owned))
}

fn output_types(names: &[String]) -> Result<Vec<OutputType>, OutputTypeError> {
    let mut types = Vec::new();
    for name in names {
        let output = OutputType::parse(name)?;
        if !types.contains(&output) {
            types.push(output);
        }
    }
    Ok(types)
}

fn architecture(
    arguments: &Arguments,
    caller: &Environment,
    machine: Architecture,
) -> Result<Architecture, ArchitectureError> {
    match given(&arguments.architecture, caller, "ARCH") {
        Some(name) => name.parse(),
        None => Ok(machine),
    }
}

fn element_path(caller: &Environment) -> Vec<String> {
    let path = text(caller, "ELEMENTS_PATH").unwrap_or_default();
    path.split(':').filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// Returns the elements from which dependencies are resolved. Adds a block-device element if `vm`
/// is requested without one, and `base` unless it is disabled, with the element that builds
/// ramdisks before it.
fn start_list(
    command: Command,
    arguments: &Arguments,
    caller: &Environment,
    architecture: Architecture,
) -> Result<Vec<ElementName>, ElementNameError> {
    let has_layout = arguments.elements.iter().any(|element| element.starts_with("block-device-"));
    let needs_layout = arguments.elements.iter().any(|element| element == "vm") && !has_layout;
    let layout = match architecture {
        Architecture::Arm64 => "block-device-efi",
        _ => "block-device-mbr",
    };
    let skips_base = arguments.no_base || text(caller, "SKIP_BASE") == Some("1");
    let ramdisk = given(&arguments.ramdisk_element, caller, "RAMDISK_ELEMENT");
    let ramdisk = ramdisk.unwrap_or_else(|| "ramdisk".to_owned());
    let first = (command == Command::RamdiskImageCreate).then_some(ramdisk);
    let base = (!skips_base).then(|| "base".to_owned());
    let layout = needs_layout.then(|| layout.to_owned());
    let given = arguments.elements.iter().cloned();
    let mut names: Vec<ElementName> = Vec::new();
    for name in first.into_iter().chain(base).chain(given).chain(layout) {
        let name = name.parse()?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn checksum(arguments: &Arguments, caller: &Environment) -> String {
    match arguments.checksum {
        true => "1".to_owned(),
        false => text(caller, "DIB_CHECKSUM").unwrap_or("0").to_owned(),
    }
}

/// Returns a name with characters that every store, container and file system accepts.
fn title(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let text: String = name.chars().map(|c| if keep(c) { c } else { '-' }).take(120).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if text.is_empty() { "image".to_owned() } else { text.to_owned() }
}

/// Returns the variables that hooks may see: those of the caller, and those that diskimage-builder
/// sets.
fn variables(
    command: Command,
    arguments: &Arguments,
    caller: &Environment,
    architecture: Architecture,
    name: &OutputName,
) -> Environment {
    let trace = number(caller, "DIB_DEBUG_TRACE").unwrap_or(0) + i64::from(arguments.trace);
    let ramdisk = command == Command::RamdiskImageCreate;
    let arch = given(&arguments.architecture, caller, "ARCH");
    let always = [
        ("ARCH", arch.unwrap_or_else(|| architecture.debian().to_owned())),
        ("IMAGE_NAME", name.as_str().to_owned()),
        ("DIB_ARGS", arguments.words.join(" ")),
        ("DIB_ENV", declarations(caller)),
        ("DIB_CHECKSUM", checksum(arguments, caller)),
        ("DIB_DEBUG_TRACE", trace.to_string()),
    ];
    let defaults = [
        ("IMAGE_TYPE", "qcow2"),
        ("FS_TYPE", "ext4"),
        ("DIB_OFFLINE", ""),
        ("DIB_NO_TMPFS", if ramdisk { "1" } else { "0" }),
        ("DIB_MIN_TMPFS", if ramdisk { "1" } else { "2" }),
        ("OUT_IMAGE_PATH", ""),
    ];
    let mut variables = Environment::new();
    variables.extend(defaults.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables.extend(for_hooks(caller));
    variables.extend(by_options(arguments).map(|(name, value)| (name.to_owned(), value)));
    variables.extend(always.map(|(name, value)| (name.to_owned(), value)));
    variables
}

/// Returns the variables that options set.
fn by_options(arguments: &Arguments) -> impl Iterator<Item = (&'static str, String)> {
    let switch = |on: bool, value: &str| on.then(|| value.to_owned());
    [
        ("SKIP_BASE", switch(arguments.no_base, "1")),
        ("COMPRESS_IMAGE", switch(arguments.uncompressed, "")),
        ("DIB_OFFLINE", switch(arguments.offline, "1")),
        ("DIB_NO_TMPFS", switch(arguments.no_tmpfs, "1")),
        ("DIB_MIN_TMPFS", arguments.min_tmpfs.clone()),
        ("DIB_IMAGE_SIZE", arguments.image_size.clone()),
        ("DIB_IMAGE_EXTRA_SIZE", arguments.image_extra_size.clone()),
        ("DIB_JOURNAL_SIZE", arguments.mkfs_journal_size.clone()),
        ("MAX_ONLINE_RESIZE", arguments.max_online_resize.clone()),
        ("DOCKER_TARGET", arguments.docker_target.clone()),
        ("LOGFILE", arguments.log_file.clone()),
        ("RAMDISK_ELEMENT", arguments.ramdisk_element.clone()),
        ("DIB_DEFAULT_INSTALLTYPE", arguments.install_type.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// Returns the caller's `DIB_*` variables as bash declares them, with secrets redacted, because
/// elements write this text into images.
fn declarations(caller: &Environment) -> String {
    let dib = caller.iter().filter(|(name, _)| name.starts_with("DIB_"));
    let lines = dib.map(|(name, value)| {
        let value = if is_secret(name, value) { "***".to_owned() } else { in_double_quotes(value) };
        format!("declare -x {name}=\"{value}\"")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn in_double_quotes(value: &str) -> String {
    let escape = |c: char| if matches!(c, '"' | '\\' | '$' | '`') { Some('\\') } else { None };
    value.chars().flat_map(|c| escape(c).into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::Invocation;
    use crate::dropin::variables::fixture::{Pairs, environment};

    fn request_as(
        command: Command,
        line: &str,
        variables: &[(&str, &str)],
    ) -> Result<BuildRequest, RequestError> {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let Invocation::Build(arguments) = Invocation::parse(&words).unwrap() else { panic!("{line}") };
        BuildRequest::new(command, &arguments, &environment(variables), Architecture::Amd64)
    }

    fn request(line: &str, variables: &[(&str, &str)]) -> BuildRequest {
        request_as(Command::DiskImageCreate, line, variables).unwrap()
    }

    fn elements(request: &BuildRequest) -> String {
        let names: Vec<_> = request.elements.iter().map(ElementName::as_str).collect();
        names.join(" ")
    }

    #[test]
    fn base_and_a_disk_for_vm_are_added() {
        let table: [(&str, Pairs<'_>, &str); 7] = [
            ("debian", &[], "base debian"),
            ("-n debian", &[], "debian"),
            ("debian", &[("SKIP_BASE", "1")], "debian"),
            ("vm debian", &[], "base vm debian block-device-mbr"),
            ("vm block-device-gpt debian", &[], "base vm block-device-gpt debian"),
            ("-a arm64 vm debian", &[], "base vm debian block-device-efi"),
            ("base debian base", &[], "base debian"),
        ];
        for (line, variables, expected) in table {
            assert_eq!(elements(&request(line, variables)), expected, "{line}");
        }
        let ramdisk = |line| elements(&request_as(Command::RamdiskImageCreate, line, &[]).unwrap());
        assert_eq!(ramdisk("deploy debian"), "ramdisk base deploy debian");
        assert_eq!(ramdisk("--ramdisk-element dracut-ramdisk -n x"), "dracut-ramdisk x");
    }

    #[test]
    fn a_call_sets_types_and_names_of_outputs() {
        let found = request("-o out/x.tar -t tar,docker,tar --docker-target a:b debian", &[]);
        assert_eq!(found.types, [OutputType::File(OutputFormat::Tar), OutputType::Docker]);
        assert_eq!((found.name.as_str(), found.title.as_str()), ("out/x.tar", "x.tar"));
        assert_eq!(found.docker_target.as_deref(), Some("a:b"));
        assert_eq!((found.compression, found.checksums.len()), (Qcow2Compression::Zlib, 0));
        let found =
            request("-u --checksum debian", &[("IMAGE_NAME", "y.qcow2"), ("DIB_IMAGE_NAME", "a b/ü")]);
        assert_eq!((found.name.as_str(), found.title.as_str()), ("y", "a-b--"));
        assert_eq!((found.compression, found.checksums.len()), (Qcow2Compression::None, 2));
        assert_eq!(found.types, [OutputType::File(OutputFormat::Qcow2)]);
    }

    #[test]
    fn hooks_see_the_variables_of_diskimage_builder() {
        let caller = [
            ("DIB_RELEASE", "bookworm"),
            ("DIB_DEV_USER_PASSWORD", "hunter2"),
            ("DIB_TEXT", "a \"b\" $c"),
            ("DIB_DEBUG_TRACE", "1"),
            ("HOME", "/home/me"),
        ];
        let line = "-x -o x --offline --install-type package --image-size 2 --min-tmpfs 9 debian";
        let found = request(line, &caller).variables;
        for (name, value) in [
            ("ARCH", "amd64"),
            ("IMAGE_NAME", "x"),
            ("IMAGE_TYPE", "qcow2"),
            ("FS_TYPE", "ext4"),
            ("DIB_OFFLINE", "1"),
            ("DIB_DEFAULT_INSTALLTYPE", "package"),
            ("DIB_IMAGE_SIZE", "2"),
            ("DIB_NO_TMPFS", "0"),
            ("DIB_MIN_TMPFS", "9"),
            ("DIB_CHECKSUM", "0"),
            ("DIB_DEBUG_TRACE", "2"),
            ("DIB_RELEASE", "bookworm"),
            ("DIB_DEV_USER_PASSWORD", "hunter2"),
            ("DIB_ARGS", line),
            (
                "DIB_ENV",
                "declare -x DIB_DEBUG_TRACE=\"1\"\ndeclare -x DIB_DEV_USER_PASSWORD=\"***\"\n\
                 declare -x DIB_RELEASE=\"bookworm\"\ndeclare -x DIB_TEXT=\"a \\\"b\\\" \\$c\"",
            ),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
        }
        for name in ["HOME", "SKIP_BASE", "COMPRESS_IMAGE", "DOCKER_TARGET"] {
            assert!(!found.contains_key(name), "{name}");
        }
    }

    #[test]
    fn an_invalid_call_is_refused_before_the_build() {
        let table: [(&str, Pairs<'_>, &str); 8] = [
            (
                "debian",
                &[("RUN_PARTS_REGEX", ".*")],
                "cannot build with RUN_PARTS_REGEX=`.*`: plywood runs only hooks whose names consist of letters, digits, `-` and `_`: \
                 unset it, and rename other hooks",
            ),
            (
                "-t tgz debian",
                &[("DIB_GZIP_BIN", "/usr/bin/zstd")],
                "cannot build with DIB_GZIP_BIN=`/usr/bin/zstd`: plywood compresses a tgz itself, in the gzip format: unset it",
            ),
            ("-o x", &[], "At least one distribution root element must be specified"),
            ("-t docker debian", &[], "Please set --docker-target."),
            ("-a pdp11 debian", &[], "unknown architecture `pdp11`"),
            (
                "../debian",
                &[],
                "element name `../debian` contains '/': expected letters, digits, `-`, `_`, `.`, `+` and `@`",
            ),
            (
                "-t a/b debian",
                &[],
                "`a/b` is not a valid image type: expected a type such as `qcow2`, `raw` or `tar`",
            ),
            (
                "-o out/ debian",
                &[],
                "output name `out/` has no last component: pass a file name without its extension with `-o`",
            ),
        ];
        for (line, variables, message) in table {
            let error = request_as(Command::DiskImageCreate, line, variables).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
        }
    }

    #[test]
    fn unsupported_variables_without_effect_are_allowed() {
        request("debian", &[("RUN_PARTS_REGEX", "^[0-9A-Za-z_-]+$"), ("DIB_GZIP_BIN", "zstd")]);
        request("-t tgz debian", &[("DIB_GZIP_BIN", "/usr/bin/pigz")]);
    }

    #[test]
    fn the_disk_has_more_variables_than_hooks() {
        let found = request("--mkfs-options -Ofoo --root-label top --image-size 2 debian", &[]);
        let disk = found.disk_variables();
        assert_eq!(
            (&*disk["MKFS_OPTS"], &*disk["ROOT_LABEL"], &*disk["DIB_IMAGE_SIZE"]),
            ("-Ofoo", "top", "2")
        );
        assert!(!found.variables.contains_key("MKFS_OPTS"));
    }

    #[test]
    fn some_images_have_no_disk() {
        assert!(!request("debian", &[]).is_without_disk(["debian"]));
        assert!(request("debian", &[]).is_without_disk(["debian", "no-final-image"]));
        let ramdisk = request_as(Command::RamdiskImageCreate, "debian", &[]).unwrap();
        assert!(ramdisk.is_without_disk(["debian"]));
    }
}
