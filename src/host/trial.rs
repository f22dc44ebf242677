//! Trials of kernel features.

use super::{Finding, Rights};

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    Works,
    Fails {
        /// An imperative such as `make a mount namespace`.
        action: String,
        /// The kernel's error number, if there is one.
        errno: Option<i32>,
        /// The reason as text.
        reason: String,
    },
}

/// Error numbers. Source: Linux, `include/uapi/asm-generic/errno-base.h`, `errno.h`.
pub(super) const EPERM: i32 = 1;
pub(super) const ENOENT: i32 = 2;
pub(super) const ENXIO: i32 = 6;
pub(super) const EACCES: i32 = 13;
pub(super) const ENODEV: i32 = 19;
pub(super) const EINVAL: i32 = 22;
pub(super) const ENOSPC: i32 = 28;

/// Checks that hooks can get namespaces of their own.
pub fn namespaces(trial: &Trial, rights: &Rights) -> Finding {
    const CHECK: &str = "namespaces";
    let Trial::Fails { action, errno, reason } = trial else {
        return Finding::ok(CHECK, "mount, pid, uts, ipc and network namespaces can be made");
    };
    let found = format!("hooks cannot get namespaces of their own: cannot {action}: {reason}");
    let cure = match *errno {
        Some(EPERM | EACCES) => refused(rights),
        Some(ENOSPC) => "raise the limits `user.max_mnt_namespaces`, `user.max_pid_namespaces`, \
                         `user.max_net_namespaces` of sysctl(8)"
            .to_owned(),
        _ => "build on a kernel with mount, pid, uts, ipc and network namespaces".to_owned(),
    };
    Finding::lacking(CHECK, found, cure)
}

/// Returns the advice for a call that is refused although the capabilities allow it.
pub(super) fn refused(rights: &Rights) -> String {
    match rights.container {
        Some(container) => container.lift_filters().to_owned(),
        None if rights.is_filtered => "start plywood without the seccomp filter that it runs under (of a \
                                       systemd unit: `SystemCallFilter=`, `RestrictNamespaces=`)"
            .to_owned(),
        None => "see in `dmesg` which security module (AppArmor, SELinux) refuses it".to_owned(),
    }
}

/// Checks that disks can be created.
pub fn loop_devices(trial: &Trial, rights: &Rights) -> Finding {
    const CHECK: &str = "loop devices";
    let Trial::Fails { action, errno, reason } = trial else {
        return Finding::ok(CHECK, "a file was attached and detached");
    };
    let found = format!("only containers and archives can be built, no disks: cannot {action}: {reason}");
    let cure = match (*errno, rights.container) {
        // Whatever the number: in a container, the host has the module, but the container lacks the
        // devices.
        (_, Some(container)) => container.give_devices().to_owned(),
        (Some(ENOENT | ENXIO | ENODEV), None) => "modprobe loop".to_owned(),
        (Some(EPERM | EACCES), None) => refused(rights),
        _ => "see `dmesg`, and `losetup --list` for devices in use".to_owned(),
    };
    Finding::limited(CHECK, found, cure)
}

/// Checks that logical volumes can be created. `is_there` is true if the kernel has the device
/// mapper.
pub fn device_mapper(is_there: bool) -> Finding {
    const CHECK: &str = "device mapper";
    if is_there {
        return Finding::ok(CHECK, "logical volumes can be made");
    }
    Finding::limited(
        CHECK,
        "the kernel has no device mapper, so disks with logical volumes (`lvm`) cannot be built",
        "modprobe dm-mod, or lay the disk out without `lvm`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Standing};
    use super::*;

    fn rights(container: Option<Container>, is_filtered: bool) -> Rights {
        Rights { uid: 0, capabilities: u64::MAX, is_filtered, in_user_namespace: false, container }
    }

    fn fails(errno: i32) -> Trial {
        Trial::Fails { action: "try".to_owned(), errno: Some(errno), reason: "no".to_owned() }
    }

    #[test]
    fn each_refusal_has_its_cure() {
        let docker = Some(Container::Docker);
        for (errno, container, filtered, words) in [
            (EPERM, docker, true, "seccomp=unconfined"),
            (EACCES, docker, false, "apparmor=unconfined"),
            (EPERM, None, true, "SystemCallFilter"),
            (EACCES, None, false, "dmesg"),
            (ENOSPC, None, false, "user.max_mnt_namespaces"),
            (EINVAL, None, false, "kernel with"),
        ] {
            let finding = namespaces(&fails(errno), &rights(container, filtered));
            assert_eq!(finding.standing, Standing::Lacking);
            assert!(finding.cure.as_ref().unwrap().contains(words), "{errno} {finding:?}");
        }
        for (errno, container, words) in [
            (ENOENT, None, "modprobe loop"),
            (ENOENT, docker, "--privileged"),
            (EPERM, Some(Container::Kubernetes), "privileged: true"),
        ] {
            let finding = loop_devices(&fails(errno), &rights(container, false));
            assert_eq!(finding.standing, Standing::Limited);
            assert!(finding.cure.as_ref().unwrap().contains(words), "{errno} {finding:?}");
        }
        assert_eq!(loop_devices(&Trial::Works, &rights(None, false)).standing, Standing::Ok);
    }
}
