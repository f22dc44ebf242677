//! The images and their checks.

use super::Status::Works;
use super::disks::{DISKS, FAILING};
use super::metal::METAL;
use super::{Check, Image, Status};

/// Returns a check of an element that works.
pub(super) const fn check(element: &'static str, what: &'static str, script: &'static str) -> Check {
    Check { element, status: Works, what, script }
}

/// Returns a check with another expected result.
pub(super) const fn expected(
    element: &'static str,
    status: Status,
    what: &'static str,
    script: &'static str,
) -> Check {
    Check { element, status, what, script }
}

/// All images. They share their lowest layers.
pub(super) fn images() -> impl Iterator<Item = &'static Image> {
    const OTHERS: [Image; 4] = [CLOUD, DEBIAN, INIT, METAL];
    OTHERS.iter().chain(&DISKS).chain(&FAILING)
}

/// The elements of a cloud image, and an element of the test that calls the programs of the others.
const CLOUD: Image = Image {
    name: "cloud",
    elements: &[
        "debian-minimal",
        "base",
        "openssh-server",
        "cloud-init",
        "cloud-init-datasources",
        "cloud-init-disable-resizefs",
        "growroot",
        "dhcp-all-interfaces",
        "devuser",
        "journal-to-console",
        "enable-serial-console",
        "element-manifest",
        "local-config",
        "ensure-venv",
        "apt-conf",
        "apt-preferences",
        "apt-sources",
        "modprobe-blacklist",
        "pip-and-virtualenv",
        "iscsi-boot",
        "dkms",
        "cleanup-kernel-initrd",
        "baremetal",
        "cloud-init-growpart",
        "disable-nouveau",
        "dynamic-login",
        "epel",
        "grub2",
        "growvols",
        "ibft-interfaces",
        "nm-dhcp-ib-interfaces",
        "select-boot-kernel-initrd",
        "selinux-fixfiles-restore",
        "selinux-permissive",
        "probe",
    ],
    outputs: "'tar'",
    keys: r#"
packages = ["jq"]
files = { "apt.conf" = "data/apt.conf", "pins.json" = "data/pins.json", "sources.list" = "data/sources.list" }
[image.cloud.env]
DIB_RELEASE = "bookworm"
DIB_AVOID_PACKAGES_UPDATE = "1"
DIB_CLOUD_INIT_DATASOURCES = "ConfigDrive"
DIB_CLOUD_INIT_GROWPART_DEVICES = "[/dev/vda1]"
DIB_GROWVOLS_TRIGGER = "systemd"
DIB_DEV_USER_USERNAME = "stack"
DIB_DEV_USER_PWDLESS_SUDO = "yes"
DIB_DEV_USER_GROUPS = "adm"
DIB_MODPROBE_BLACKLIST = "floppy"
DIB_INSTALLTYPE_pip_and_virtualenv = "package"
DIB_APT_CONF = "/tmp/plywood/hooks/files/apt.conf"
DIB_DPKG_MANIFEST = "/tmp/plywood/hooks/files/pins.json"
DIB_APT_SOURCES = "/tmp/plywood/hooks/files/sources.list"
DIB_INSTALLTYPE_probe_not = "package"
DIB_PROBE_BASE = "PROJECT"
"#,
    files: &[
        ("data/apt.conf", "APT::Get::Show-Upgraded \"true\";\n"),
        ("data/pins.json", r#"{ "packages": [{ "package": "no-such-package", "version": "1.0" }] }"#),
        ("data/sources.list", "# sources of the project\n"),
        ("data/file", "fetched\n"),
        (
            "elements/probe/element-deps",
            "cache-url\ndib-init-system\ndib-python\ninstall-bin\ninstall-static\ninstall-types\npackage-installs\n\
             source-repositories\nsvc-map\nsysctl\n",
        ),
        ("elements/probe/environment.d/50-probe", "export DIB_PROBE_REF=v1\n"),
        (
            "elements/probe/source-repository-probe",
            "# what, how, where to, where from\n\
             probe-git git /opt/probe file://$DIB_PROBE_BASE/repository $DIB_PROBE_REF\n\
             probe-file file /opt/probe-file file://${DIB_PROBE_BASE}/data/file\n\
             probe-not file /opt/probe-not file:///no/such/file\n",
        ),
        (
            "elements/probe/package-installs.yaml",
            "probe-package:\nfile:\n  build-only: true\nno-such-package:\n  - arch: s390x\n  - installtype: package\n\
             tree:\n  when: DIB_PROBE_REF = v1\n",
        ),
        ("elements/probe/pkg-map", r#"{ "default": { "probe-package": "less" } }"#),
        ("elements/probe/svc-map", "probe-service:\n  debian: cron\n  default: crond\n"),
        ("elements/probe/static/etc/probe.conf", "static\n"),
        ("elements/probe/bin/probe-tool", "#!/bin/sh\necho tool\n"),
        ("elements/probe/init-scripts/systemd/probe.service", "[Service]\nExecStart=/bin/true\n"),
        ("elements/probe/modprobe.d/probe.conf", "options loop max_loop=8\n"),
        (
            "elements/probe/extra-data.d/60-probe",
            "#!/bin/bash\nset -eu\n$TMP_HOOKS_PATH/bin/cache-url file://$DIB_PROBE_BASE/data/file /tmp/probe-cached\n\
             sudo cp /tmp/probe-cached $TMP_MOUNT_PATH/etc/probe-cached\n",
        ),
        (
            "elements/probe/install.d/probe-source-install/40-probe-type",
            "#!/bin/sh\necho source >/etc/probe-type\n",
        ),
        (
            "elements/probe/install.d/probe-package-install/40-probe-type",
            "#!/bin/sh\necho package >/etc/probe-type\n",
        ),
        (
            "elements/probe/install.d/60-probe",
            "#!/bin/bash\nset -eu\nmkdir -p /tmp/parts\n\
             printf '#!/bin/sh\\necho part >>/etc/probe-parts\\n' | tee /tmp/parts/9-a /tmp/parts/10-b /tmp/parts/no.dot >/dev/null\n\
             chmod +x /tmp/parts/*\n/tmp/in_target.d/dib-run-parts /tmp/parts\n\
             svc-map probe-service >/etc/probe-service\npkg-map --element probe probe-package >/etc/probe-package\n\
             dib-python -c 'print(3)' >/etc/probe-python\nprobe-tool >/etc/probe-tool\n\
             sysctl-write-value net.ipv4.ip_forward 1\nsystemctl enable probe.service || true\n",
        ),
        (
            "elements/probe/finalise.d/60-probe",
            "#!/bin/bash\nset -eu\nselect-boot-kernel-initrd >/etc/probe-kernel\n",
        ),
        (
            "elements/probe/cleanup.d/99-probe",
            "#!/bin/bash\nset -eu\ntest -s $IMAGE_NAME.vmlinuz -a -s $IMAGE_NAME.initrd\n\
             sudo touch $TARGET_ROOT/etc/probe-baremetal\n",
        ),
    ],
    checks: &[
        check(
            "debian-minimal",
            "the release is bookworm; its sources are in `sources.list.d`",
            ". etc/os-release; [ $VERSION_CODENAME = bookworm ]; grep -q 'bookworm main' etc/apt/sources.list.d/default.list",
        ),
        check(
            "debootstrap",
            "dpkg's database, the locale, no package indices",
            "test -s var/lib/dpkg/status; test -e etc/default/locale; [ -z \"$(find var/lib/apt/lists -type f)\" ]",
        ),
        check(
            "dpkg",
            "services may start again; its manifest lists the installed packages",
            "test ! -e usr/sbin/policy-rc.d; grep -q openssh-server etc/dib-manifests/dib-manifest-dpkg-cloud",
        ),
        check(
            "base",
            "`/etc/cloud/cloud.cfg.d` and open-iscsi are there",
            "test -d etc/cloud/cloud.cfg.d; test -e usr/sbin/iscsid",
        ),
        check(
            "openssh-server",
            "`ssh.service` is enabled; ciphers are set",
            "test -L etc/systemd/system/multi-user.target.wants/ssh.service; grep -q ^Ciphers etc/ssh/sshd_config",
        ),
        check(
            "runtime-ssh-host-keys",
            "no host keys; the unit that makes them is enabled",
            "[ -z \"$(find etc/ssh -name 'ssh_host*')\" ]; test -L etc/systemd/system/multi-user.target.wants/ssh-keygen.service",
        ),
        check(
            "cloud-init",
            "its units are enabled; the key types are set",
            "test -L etc/systemd/system/cloud-init.target.wants/cloud-final.service; grep -q ssh_genkeytypes etc/cloud/cloud.cfg",
        ),
        check(
            "cloud-init-datasources",
            "the list of data sources",
            "grep -q 'ConfigDrive, None' etc/cloud/cloud.cfg.d/91-dib-cloud-init-datasources.cfg",
        ),
        check(
            "cloud-init-disable-resizefs",
            "`cloud.cfg` has neither `resizefs` nor `growpart`",
            "! grep -qE '^ - (resizefs|growpart)' etc/cloud/cloud.cfg",
        ),
        check(
            "growroot",
            "its unit is enabled, its program there",
            "test -L etc/systemd/system/multi-user.target.wants/growroot.service -o -L etc/systemd/system/sysinit.target.wants/growroot.service; test -x usr/local/sbin/growroot",
        ),
        check(
            "dhcp-all-interfaces",
            "its rule, unit and program; no network interface from the base",
            "test -e etc/udev/rules.d/99-dhcp-all-interfaces.rules; test -x usr/local/sbin/dhcp-all-interfaces.sh; ! ls etc/network/interfaces.d/eth0",
        ),
        check(
            "devuser",
            "the user, its group, and sudo without a password",
            "grep -q ^stack: etc/passwd; grep -q '^adm:.*stack' etc/group; grep -q NOPASSWD etc/sudoers.d/stack",
        ),
        check(
            "journal-to-console",
            "journald's setting",
            "grep -q ForwardToConsole=true etc/systemd/journald.conf.d/log-to-console.conf",
        ),
        check("enable-serial-console", "its udev rule", "test -e etc/udev/rules.d/99-serial-console.rules"),
        check(
            "element-manifest",
            "the elements, one a line",
            "grep -qx openssh-server etc/dib-manifests/dib-element-manifest",
        ),
        check(
            "manifests",
            "variables and arguments, readable only by root",
            "grep -q DIB_RELEASE etc/dib-manifests/dib_environment; test -e etc/dib-manifests/dib_arguments; [ $(stat -c %a etc/dib-manifests/dib_environment) = 600 ]",
        ),
        check(
            "local-config",
            "apt's exceptions from proxies",
            "grep -q DIRECT etc/apt/apt.conf.d/02-no-proxy",
        ),
        check("ensure-venv", "python's venv", "test -e usr/share/doc/python3-venv"),
        check("apt-conf", "the given `apt.conf`", "grep -q Show-Upgraded etc/apt/apt.conf"),
        check(
            "apt-preferences",
            "a pin made of the given manifest",
            "grep -q no-such-package etc/apt/preferences",
        ),
        check(
            "apt-sources",
            "the given `sources.list`",
            "grep -q 'sources of the project' etc/apt/sources.list",
        ),
        check("modprobe", "`modprobe.d` of another element", "grep -q max_loop=8 etc/modprobe.d/probe.conf"),
        check(
            "modprobe-blacklist",
            "the module is in `blacklist.conf`, once",
            "[ $(grep -c 'blacklist floppy' etc/modprobe.d/blacklist.conf) = 1 ]",
        ),
        check("pip-and-virtualenv", "type `package`: pip of the distribution", "test -x usr/bin/pip3"),
        check(
            "iscsi-boot",
            "the setting, and an initramfs that has it",
            "grep -q ISCSI_AUTO=true etc/iscsi/iscsi.initramfs; ls boot/initrd.img-*",
        ),
        check("dkms", "its program is installed", "test -x usr/sbin/dkms"),
        check("cleanup-kernel-initrd", "one kernel", "[ $(ls boot/vmlinuz-* | wc -l) = 1 ]"),
        check(
            "source-repositories",
            "a git checkout at a tag; a file; nothing for another install type; the list of destinations",
            "[ \"$(cat opt/probe/hello)\" = hello ]; git -c safe.directory='*' -C opt/probe describe --tags | grep -qx v1; grep -q fetched opt/probe-file; grep -qx /opt/probe etc/dib-source-repositories; grep -q 'probe-git git /opt/probe' etc/dib-manifests/dib-manifest-git-cloud",
        ),
        check(
            "package-installs",
            "every key: translated, conditional, removed after the build",
            "test -x usr/bin/less; test -x usr/bin/tree; test ! -e usr/bin/file; test ! -e tmp/package-installs.json",
        ),
        check(
            "pkg-map",
            "the command's answer in a hook; its maps and itself in the image",
            "grep -qx less etc/probe-package; test -e usr/share/pkg-map/probe -a -x usr/local/bin/pkg-map",
        ),
        check(
            "svc-map",
            "the command's answer in a hook; the merged map in the image",
            "grep -qx cron etc/probe-service; grep -qx 'probe-service: cron' usr/share/svc-map/services",
        ),
        check(
            "install-bin",
            "a tool, and its output in a hook",
            "test -x usr/local/bin/probe-tool; grep -q tool etc/probe-tool",
        ),
        check("install-static", "a file of `static/`", "grep -q static etc/probe.conf"),
        check("install-types", "the hook of the chosen type", "grep -qx source etc/probe-type"),
        check(
            "dib-init-system",
            "an init script, and the command",
            "test -e usr/lib/systemd/system/probe.service; test -x usr/local/bin/dib-init-system",
        ),
        check(
            "dib-python",
            "runs Python hooks without a preset; it is gone at the end",
            "grep -qx 3 etc/probe-python; test ! -e usr/local/bin/dib-python -a ! -L usr/local/bin/dib-python",
        ),
        check(
            "cache-url",
            "a hook of a host phase fetched a file with it",
            "grep -q fetched etc/probe-cached; test -x usr/local/bin/cache-url",
        ),
        check("baremetal", "kernel and initramfs are beside the image", "test -e etc/probe-baremetal"),
        check(
            "cloud-init-growpart",
            "the devices are in cloud-init's configuration; growpart is installed",
            "grep -q '/dev/vda1' etc/cloud/cloud.cfg.d/55-growpart.cfg; test -x usr/bin/growpart",
        ),
        check(
            "disable-nouveau",
            "its settings in `modprobe.d`",
            "grep -q 'blacklist nouveau' etc/modprobe.d/disable-nouveau.conf",
        ),
        check(
            "dynamic-login",
            "its unit is enabled, its program there",
            "test -L etc/systemd/system/multi-user.target.wants/dynamic-login.service; test -x usr/local/bin/dynamic-login",
        ),
        check("epel", "no effect on Debian, as documented", "test ! -e etc/yum.repos.d"),
        check("grub2", "GRUB's signed programs", "test -s usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
        check(
            "growvols",
            "its unit is enabled, its settings there",
            "test -L etc/systemd/system/multi-user.target.wants/growvols.service; test -e etc/default/growvols",
        ),
        check(
            "ibft-interfaces",
            "its unit is enabled, its modules are listed",
            "test -L etc/systemd/system/multi-user.target.wants/init-ibft-interfaces.service; grep -q iscsi_ibft etc/modules-load.d/ibft.conf",
        ),
        check(
            "nm-dhcp-ib-interfaces",
            "the connection, readable only by root",
            "[ $(stat -c %a etc/NetworkManager/system-connections/infiniband.nmconnection) = 600 ]",
        ),
        check(
            "select-boot-kernel-initrd",
            "its answer in a hook of the final stage; its functions are not in the image",
            "grep -q ^vmlinuz-.*:initrd.img- etc/probe-kernel; test ! -e lib/diskimage-builder",
        ),
        check("selinux-fixfiles-restore", "no effect without a policy", "test ! -e etc/selinux/targeted"),
        check("selinux-permissive", "SELinux's mode", "grep -qx SELINUX=permissive etc/selinux/config"),
        check(
            "sysctl",
            "a setting that a hook made",
            "grep -q 'net.ipv4.ip_forward = 1' etc/sysctl.d/net.ipv4.ip_forward.conf",
        ),
    ],
};

/// The element for Debian's own cloud image.
const DEBIAN: Image = Image {
    name: "debian",
    elements: &["debian"],
    outputs: "'tar'",
    keys: "[image.debian.env]\nDIB_RELEASE = 'bookworm'\n",
    files: &[],
    checks: &[
        check(
            "debian",
            "netplan is installed; a pin excludes sysvinit",
            "test -e usr/sbin/netplan; grep -q sysvinit etc/apt/preferences.d/sysvinit",
        ),
        check(
            "sysprep",
            "the machine id is not set",
            "[ ! -s etc/machine-id ] || grep -q uninitialized etc/machine-id",
        ),
    ],
};

/// The alternative to cloud-init.
const INIT: Image = Image {
    name: "init",
    elements: &["debian-minimal", "base", "simple-init"],
    outputs: "'tar'",
    keys: "[image.init.env]\nDIB_RELEASE = 'bookworm'\nDIB_AVOID_PACKAGES_UPDATE = '1'\nDIB_INSTALLTYPE_glean = 'package'\n",
    files: &[],
    checks: &[check(
        "simple-init",
        "type `source`: glean, from the Python package index, is installed and enabled",
        "test -x usr/glean/bin/glean; grep -q 8021q etc/modules; ls etc/udev/rules.d lib/systemd/system | grep glean",
    )],
};
