//! The texts of `--help`.

use super::command::Command;
use super::property::PROPERTIES;

const OPTIONS: &str = "\
Options:
    -a ARCH                  architecture of the image: amd64, arm64, armhf … (default: this host's)
    -o NAME                  name of the outputs, without their endings (default: image)
    -t TYPE[,TYPE…]          formats to write: qcow2, raw, vhd, tar, tgz, squashfs, docker, aci, oci, docker-archive,
                             or another format of qemu-img (default: qcow2)
    -x                       trace; -x -x traces more
    -u                       do not compress a qcow2
    -c                       start from an empty environment
    --logfile FILE           append the log to FILE; print it only if DIB_QUIET is 0
    --checksum               write MD5 and SHA-256 files beside disks
    --image-size GIB         size of the disk
    --image-extra-size MIB   free space on the disk in addition to the content
    --image-cache DIR        directory for downloads of hooks (default: in plywood's store)
    --max-online-resize N    maximum size in blocks to which the mounted root file system can grow
    --min-tmpfs GIB          accepted and ignored: builds use no tmpfs
    --mkfs-journal-size MIB  size of the root file system's journal
    --mkfs-options STRING    additional options of mkfs for the root file system
    --no-tmpfs               accepted and ignored
    --offline                do not update downloads
    --qemu-img-options K=V,… options of `qemu-img convert -o`
    --root-label LABEL       label of the root file system
    --ramdisk-element NAME   element that builds the ramdisk (default: ramdisk)
    --install-type TYPE      default install type (default: source)
    --docker-target NAME     repository and tag, needed for the type docker
";

const IMAGE_OPTIONS: &str = "    \
    -n                       leave out the element base
    -p PACKAGE[,PACKAGE…]    also install these packages; can be given several times
";

const REST: &str = "    \
    -h, --help               show this help
    --version                show the version

Variables:
    ELEMENTS_PATH            directories of elements, separated by colons; plywood's own come last
    DIB_NO_TIMESTAMP         1: lines without timestamps
    DIB_QUIET                1: nothing on standard output; 0: also with --logfile
    DIB_SHOW_IMAGE_USAGE     1: report files of at least 10 MiB; with DIB_SHOW_IMAGE_USAGE_FULL=1, all files
    OVERWRITE_OLD_IMAGE      1: replace an image of the same name instead of renaming it
    DIB_CHECKSUM             checksum files to write: md5,sha256
    break, break_cmd         break points (before-PHASE,after-PHASE,after-error), and the command to run there
    PLYWOOD_STORE            directory of the store
    PLYWOOD_ORDER            element: a layer for each element; phase: diskimage-builder's own order (default: element,
                             then phase if element order fails)
    PLYWOOD_PACKAGES_REVISION  a text; a change of it installs all packages again (default: today's date)
    PLYWOOD_CACHE_FROM       repositories in which layers are looked up, separated by commas
    PLYWOOD_CACHE_TO         repository to which layers are published
    PLYWOOD_TRUST_KEYS       public keys, separated by commas; layers of registries need a signature of one of them
    PLYWOOD_SIGN_KEY         file of the key that signs published layers
    PLYWOOD_HOOK_TIMEOUT     seconds after which a hook is stopped (default: never)
    PLYWOOD_HOOK_PROCESSES   processes and threads of a hook at the same time (default: unlimited)
    PLYWOOD_HOOK_MEMORY      memory of a hook: 2G (default: unlimited)

One of the elements must provide an operating system.
";

/// Returns the text of a command's `--help`.
pub fn help(command: Command) -> String {
    let image_options = if command == Command::DiskImageCreate { IMAGE_OPTIONS } else { "" };
    format!("Usage: {command} [OPTION]… ELEMENT…\n\n{OPTIONS}{image_options}{REST}")
}

/// Returns the keys of an image definition, for the help of `diskimage-builder`.
pub fn definition_help() -> String {
    let keys = PROPERTIES.iter().map(|property| {
        format!("{}\n    {} ({})\n", property.key, property.help, property.kind.expectation())
    });
    keys.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::option::OPTIONS;

    #[test]
    fn every_option_is_explained() {
        let help = help(Command::DiskImageCreate);
        for spelling in OPTIONS {
            let names =
                [spelling.long.map(|long| format!("--{long}")), spelling.short.map(|c| format!("-{c}"))];
            for name in names.into_iter().flatten() {
                let explained =
                    help.split(['\n', ',']).any(|line| line.trim_start().starts_with(&format!("{name} ")));
                assert!(explained || help.contains(&format!("    {name},")), "{name}");
            }
        }
        assert!(!super::help(Command::RamdiskImageCreate).contains("\n    -n "));
    }
}
