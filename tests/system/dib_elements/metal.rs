//! Elements for bare metal and for build farms, in phase order, because `pypi` needs this order.

use super::images::check;
use super::{Check, Image};

/// Some of these elements have hooks in `root.d`.
pub(super) const METAL: Image = Image {
    name: "metal",
    elements: &[
        "debian-minimal",
        "autoupdates",
        "cloud-init-nocloud",
        "fail2ban",
        "mellanox",
        "openstack-ci-mirrors",
        "pip-cache",
        "posix",
        "pypi",
        "asks",
    ],
    outputs: "'tar'",
    keys: r#"
order = "phase"
files = { "updates.conf" = "data/updates.conf" }
[image.metal.env]
DIB_RELEASE = "bookworm"
DIB_PYPI_MIRROR_URL = "http://pypi.example/simple"
DIB_DEB_UPDATES_CONF = "/tmp/plywood/hooks/files/updates.conf"
"#,
    files: &[
        ("data/updates.conf", "Unattended-Upgrade::Remove-Unused-Dependencies \"true\";\n"),
        (
            "elements/asks/install.d/50-asks",
            "#!/bin/bash\nset -eu\ncp /root/.pip/pip.conf /etc/asked-pip\n\
             echo \"$PIP_DOWNLOAD_CACHE\" >/etc/asked-cache\ntouch /tmp/pip/asked\n",
        ),
    ],
    checks: CHECKS,
};

const CHECKS: &[Check] = &[
    check(
        "autoupdates",
        "its unit is enabled; the given configuration is there",
        "test -L etc/systemd/system/multi-user.target.wants/unattended-upgrades.service; grep -q Remove-Unused etc/apt/apt.conf.d/50unattended-upgrades",
    ),
    check("cloud-init-nocloud", "the seed's two files", "test -e var/lib/cloud/seed/nocloud/meta-data"),
    check(
        "fail2ban",
        "its unit is enabled",
        "test -L etc/systemd/system/multi-user.target.wants/fail2ban.service",
    ),
    check(
        "mellanox",
        "its rules, its modules, and its packages of Debian",
        "grep -q mlx4_en etc/udev/rules.d/81-mellanox.rules etc/modules; test -x usr/bin/ibv_devinfo",
    ),
    check(
        "openstack-ci-mirrors",
        "unsigned packages are allowed; no mirrors without a file of mirrors",
        "grep -q AllowUnauthenticated etc/apt/apt.conf.d/99unauthenticated",
    ),
    check(
        "pip-cache",
        "hooks have the variable and the directory; the image has neither",
        "grep -qx /tmp/pip etc/asked-cache; test ! -e tmp/pip",
    ),
    check(
        "posix",
        "its programs",
        "for name in bc m4 gcc at ed pax vi; do ls usr/bin/$name bin/$name || exit 1; done",
    ),
    check(
        "pypi",
        "hooks have pip's configuration; the image does not (only in phase order)",
        "grep -q pypi.example etc/asked-pip; test ! -e root/.pip/pip.conf",
    ),
];
