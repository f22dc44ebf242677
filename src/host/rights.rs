//! Root and its capabilities.

use super::{Container, Finding};

const CHECK: &str = "privileges";

/// The capabilities that a build needs: their numbers and names.
///
/// Source: Linux, `include/uapi/linux/capability.h`.
const NEEDED: [(u32, &str); 11] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (18, "SYS_CHROOT"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
    (31, "SETFCAP"),
];

/// The rights of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// The effective user.
    pub uid: u32,
    /// The effective capabilities, one bit each.
    pub capabilities: u64,
    /// Whether a seccomp filter checks its system calls.
    pub is_filtered: bool,
    /// Whether it is in a user namespace, where root is another user on the host.
    pub in_user_namespace: bool,
    /// The container in which it runs, if any.
    pub container: Option<Container>,
}

impl Rights {
    /// Parses the rights of the user `uid` from the texts of `/proc/self/status` and
    /// `/proc/self/uid_map`.
    ///
    /// Source: proc(5), user_namespaces(7).
    pub fn read(uid: u32, status: &str, uid_map: &str, container: Option<Container>) -> Self {
        let field = |name: &str| {
            let mut lines = status.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(field, _)| *field == name).map_or("", |(_, value)| value.trim())
        };
        let map: Vec<_> = uid_map.split_whitespace().collect();
        Self {
            uid,
            // Without /proc, no capability counts as missing. The trials show it.
            capabilities: u64::from_str_radix(field("CapEff"), 16).unwrap_or(u64::MAX),
            is_filtered: field("Seccomp") == "2",
            // The initial user namespace maps all users to themselves, in one line.
            in_user_namespace: !map.is_empty() && map != ["0", "0", "4294967295"],
            container,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let is_missing = |number: &u32| self.capabilities & (1 << number) == 0;
        NEEDED.iter().filter(|(number, _)| is_missing(number)).map(|(_, name)| *name).collect()
    }
}

/// Checks that the process is root on its host and has all capabilities that a build needs.
pub fn privileges(rights: &Rights) -> Finding {
    let missing = rights.missing();
    let place = rights.container.map_or_else(String::new, |container| format!(" in {}", container.name()));
    if rights.uid != 0 {
        return Finding::lacking(
            CHECK,
            format!(
                "building needs root: hooks run in namespaces with mounts of their own (plywood runs as user {}{place})",
                rights.uid
            ),
            "sudo plywood …",
        );
    }
    if !missing.is_empty() {
        let names = missing.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>().join(", ");
        let noun = if missing.len() == 1 { "capability" } else { "capabilities" };
        return Finding::lacking(
            CHECK,
            format!("building needs root with all its rights; root{place} lacks the {noun} {names}"),
            rights.container.map_or_else(
                || {
                    "start plywood from a root shell that has all capabilities (`capsh --print` shows them)"
                        .to_owned()
                },
                |container| container.give_capabilities(&missing),
            ),
        );
    }
    // After the capabilities, because the advice to add them comes first.
    if rights.in_user_namespace {
        return Finding::lacking(
            CHECK,
            format!(
                "root{place} is another user on the host (a user namespace): devices cannot be made, so no root file system can"
            ),
            "start plywood, or its container, as the host's root: `sudo podman run --privileged …`",
        );
    }
    Finding::ok(CHECK, format!("root{place}, with all capabilities that a build needs"))
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;

    const HOST_MAP: &str = "         0          0 4294967295\n";

    /// Docker's default rights.
    const DOCKER: &str = "Name:\tplywood\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n";
    const FULL: &str = "CapPrm:\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n";

    #[test]
    fn a_container_is_told_its_missing_capability_and_the_fix() {
        let found = |container| privileges(&Rights::read(0, DOCKER, HOST_MAP, Some(container)));
        let docker = found(Container::Docker);
        assert_eq!(docker.standing, Standing::Lacking);
        assert!(docker.found.ends_with("root in a Docker container lacks the capability CAP_SYS_ADMIN"));
        assert!(docker.cure.unwrap().contains("docker run --cap-add SYS_ADMIN "));
        let pod = found(Container::Kubernetes).cure.unwrap();
        assert!(pod.contains("securityContext: {capabilities: {add: [SYS_ADMIN]}}"), "{pod}");
    }

    #[test]
    fn root_counts_only_with_its_rights_and_on_its_host() {
        let read = |uid, status, map| privileges(&Rights::read(uid, status, map, None));
        assert_eq!(read(0, FULL, HOST_MAP).standing, Standing::Ok);
        assert_eq!(read(0, FULL, "0 100000 65536").standing, Standing::Lacking);
        assert_eq!(read(1000, FULL, HOST_MAP).cure.as_deref(), Some("sudo plywood …"));
        let without = read(0, "CapEff:\t000001fff7dffffe\n", HOST_MAP);
        assert!(
            without.found.ends_with("root lacks the capabilities CAP_CHOWN, CAP_SYS_ADMIN, CAP_MKNOD"),
            "{without:?}"
        );
        assert!(Rights::read(0, DOCKER, HOST_MAP, None).is_filtered);
    }
}
