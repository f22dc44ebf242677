//! Parses the command line of a build.

use super::getopt::{Parsed, UsageError, parse};
use super::option::Opt;

/// The purpose of a call of `disk-image-create` or `ramdisk-image-create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Help,
    Version,
    Build(Box<Arguments>),
}

/// The arguments of a build, as given. For `None` and `false`, the environment decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// All arguments, for `DIB_ARGS`.
    pub words: Vec<String>,
    pub architecture: Option<String>,
    pub name: Option<String>,
    /// The items of `-t`. The last `-t` counts.
    pub types: Option<Vec<String>>,
    /// The number of `-x`.
    pub trace: u32,
    pub uncompressed: bool,
    pub clear: bool,
    pub no_base: bool,
    /// The packages of all `-p`.
    pub packages: Vec<String>,
    pub checksum: bool,
    /// `--image-size`, in GiB.
    pub image_size: Option<String>,
    /// `--image-extra-size`, in MiB.
    pub image_extra_size: Option<String>,
    pub image_cache: Option<String>,
    /// `--max-online-resize`, in blocks.
    pub max_online_resize: Option<String>,
    /// `--mkfs-journal-size`, in MiB.
    pub mkfs_journal_size: Option<String>,
    pub mkfs_options: Option<String>,
    /// `--min-tmpfs`, in GiB.
    pub min_tmpfs: Option<String>,
    pub no_tmpfs: bool,
    pub offline: bool,
    pub qemu_img_options: Option<String>,
    pub root_label: Option<String>,
    pub ramdisk_element: Option<String>,
    pub install_type: Option<String>,
    pub docker_target: Option<String>,
    pub log_file: Option<String>,
    /// The elements. Each operand may contain several elements or none.
    pub elements: Vec<String>,
}

impl Invocation {
    /// Parses a command line, without the program's name.
    ///
    /// # Errors
    /// With the texts of getopt, if the command line is invalid.
    pub fn parse(words: &[String]) -> Result<Self, UsageError> {
        let Parsed { options, operands } = parse(words)?;
        let mut arguments =
            Arguments { words: words.to_vec(), elements: elements_of(&operands), ..Arguments::default() };
        for (option, value) in options {
            match option {
                Opt::Help => return Ok(Invocation::Help),
                Opt::Version => return Ok(Invocation::Version),
                option => arguments.take(option, value),
            }
        }
        Ok(Invocation::Build(Box::new(arguments)))
    }
}

impl Arguments {
    fn take(&mut self, option: Opt, value: String) {
        match option {
            Opt::Architecture => self.architecture = Some(value),
            Opt::Name => self.name = Some(value),
            Opt::Types => self.types = Some(words_of(&value)),
            Opt::Trace => self.trace += 1,
            Opt::Uncompressed => self.uncompressed = true,
            Opt::Clear => self.clear = true,
            Opt::NoBase => self.no_base = true,
            Opt::Packages => self.packages.extend(words_of(&value)),
            Opt::Checksum => self.checksum = true,
            Opt::ImageSize => self.image_size = Some(value),
            Opt::ImageExtraSize => self.image_extra_size = Some(value),
            Opt::ImageCache => self.image_cache = Some(value),
            Opt::MaxOnlineResize => self.max_online_resize = Some(value),
            Opt::MkfsJournalSize => self.mkfs_journal_size = Some(value),
            Opt::MkfsOptions => self.mkfs_options = Some(value),
            Opt::MinTmpfs => self.min_tmpfs = Some(value),
            Opt::NoTmpfs => self.no_tmpfs = true,
            Opt::Offline => self.offline = true,
            Opt::QemuImgOptions => self.qemu_img_options = Some(value),
            Opt::RootLabel => self.root_label = Some(value),
            Opt::RamdiskElement => self.ramdisk_element = Some(value),
            Opt::InstallType => self.install_type = Some(value),
            Opt::DockerTarget => self.docker_target = Some(value),
            Opt::LogFile => self.log_file = Some(value),
            Opt::Help | Opt::Version => {}
        }
    }
}

/// Splits a list at commas and spaces, because a shell splits the items again in diskimage-builder.
fn words_of(list: &str) -> Vec<String> {
    let words = list.split(|c: char| c == ',' || c.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Splits operands as a shell does that expands them without quotes: callers pass several elements
/// in one argument, and empty arguments for options that they leave out.
fn elements_of(operands: &[String]) -> Vec<String> {
    operands.iter().flat_map(|operand| operand.split_whitespace()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(line: &str) -> Invocation {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Invocation::parse(&words).unwrap()
    }

    fn arguments(line: &str) -> Arguments {
        match invocation(line) {
            Invocation::Build(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    /// Source: nodepool 11, `builder.py`.
    #[test]
    fn the_call_of_nodepool_is_understood() {
        let line =
            "-x -t qcow2,raw --checksum --no-tmpfs --qemu-img-options compat=0.10 -o /images/deb-0001 vm deb";
        let found = arguments(line);
        assert_eq!((found.trace, found.checksum, found.no_tmpfs), (1, true, true));
        assert_eq!(found.types.unwrap(), ["qcow2", "raw"]);
        assert_eq!(found.qemu_img_options.as_deref(), Some("compat=0.10"));
        assert_eq!(found.name.as_deref(), Some("/images/deb-0001"));
        assert_eq!(found.elements, ["vm", "deb"]);
        assert_eq!(found.words.join(" "), line);
    }

    /// Source: octavia, `diskimage-create.sh`.
    #[test]
    fn the_call_of_octavia_is_understood() {
        let words =
            ["", "-x", "-a", "amd64", "-o", "/images/amphora.qcow2", "-t", "qcow2", "", "base  vm ubuntu"];
        let words = words.map(str::to_owned);
        let Invocation::Build(found) = Invocation::parse(&words).unwrap() else { panic!() };
        assert_eq!(found.elements, ["base", "vm", "ubuntu"]);
        assert_eq!(found.words, words);
        let Invocation::Build(none) = Invocation::parse(&[String::new()]).unwrap() else { panic!() };
        assert_eq!(none.elements, [""; 0]);
    }

    #[test]
    fn packages_add_up_and_the_last_list_of_types_counts() {
        let found = arguments("-p git,jq -t raw -p vim -t tar,,tgz x");
        assert_eq!(found.packages, ["git", "jq", "vim"]);
        assert_eq!(found.types.unwrap(), ["tar", "tgz"]);
    }

    #[test]
    fn help_and_version_end_the_parsing() {
        assert_eq!(invocation("vm --version -h"), Invocation::Version);
        assert_eq!(invocation("-xh --version"), Invocation::Help);
    }
}
