//! The texts of `--help`.

use super::command::Command;
use super::property::PROPERTIES;

const OPTIONS: &str = "\
Options:
    -a ARCH                  architecture of the image: amd64, arm64, armhf … (default: this machine's)
    -o NAME                  name of the outputs, without their endings (default: image)
    -t TYPE[,TYPE…]          what to write: qcow2, raw, vhd, tar, tgz, squashfs, docker, aci, oci, docker-archive,
                             or another format of qemu-img (default: qcow2)
    -x                       trace; -x -x traces more
    -u                       do not compress a qcow2
    -c                       start from an empty environment
    --logfile FILE           append the log to FILE, and print none unless DIB_QUIET is 0
    --checksum               write MD5 and SHA-256 files beside disks
    --image-size GIB         size of the disk
    --image-extra-size MIB   room beside the content of the disk
    --image-cache DIR        where hooks keep downloads (default: in plywood's store)
    --max-online-resize N    up to how many blocks the root file system can be enlarged while mounted
    --min-tmpfs GIB          taken and not used: nothing is built in a tmpfs
    --mkfs-journal-size MIB  journal of the root file system
    --mkfs-options STRING    further options of mkfs for the root file system
    --no-tmpfs               taken and not used
    --offline                do not bring downloads up to date
    --qemu-img-options K=V,… options of `qemu-img convert -o`
    --root-label LABEL       label of the root file system
    --ramdisk-element NAME   element that makes the ramdisk (default: ramdisk)
    --install-type TYPE      default install type (default: source)
    --docker-target NAME     repository and tag, needed for the type docker
";

const IMAGE_OPTIONS: &str = "    \
    -n                       leave out the element base
    -p PACKAGE[,PACKAGE…]    install these packages, too; repeatable
";

const REST: &str = "    \
    -h, --help               show this
    --version                show the version

Variables:
    ELEMENTS_PATH            directories of elements, separated by colons; plywood's own come last
    DIB_NO_TIMESTAMP         1: no time in front of lines
    DIB_QUIET                1: nothing on standard output; 0: also with --logfile
    DIB_SHOW_IMAGE_USAGE     1: what takes 10 MiB of room and more; with DIB_SHOW_IMAGE_USAGE_FULL=1, everything
    OVERWRITE_OLD_IMAGE      1: replace an image of the same name instead of renaming it
    DIB_CHECKSUM             which checksum files to write: md5,sha256
    break, break_cmd         where to stop, and what to run there (before-PHASE,after-PHASE,after-error)
    PLYWOOD_STORE            where layers and downloads are kept
    PLYWOOD_ORDER            element: a layer for each element; phase: diskimage-builder's own order (default: element,
                             and phase where that fails)
    PLYWOOD_PACKAGES_REVISION  a text; with another one packages are installed anew (default: the day)
    PLYWOOD_CACHE_FROM       repositories of registries that layers are looked up in, separated by commas
    PLYWOOD_CACHE_TO         repository that layers are published in
    PLYWOOD_TRUST_KEYS       public keys of which one must have signed what registries have, separated by commas
    PLYWOOD_SIGN_KEY         file of the key that published layers are signed with
    PLYWOOD_HOOK_TIMEOUT     seconds after which a hook that still runs is ended (default: never)
    PLYWOOD_HOOK_PROCESSES   processes and threads that a hook may have at a time (default: any number)
    PLYWOOD_HOOK_MEMORY      memory that a hook may take: 2G (default: all)

One of the elements has to bring an operating system.
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
