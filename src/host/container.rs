//! Detects a container around plywood, and advises how to give it rights.

/// The engine of the container in which plywood runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Docker, or an engine with Docker's command line.
    Docker,
    /// Podman.
    Podman,
    /// A pod of Kubernetes, run by any engine.
    Kubernetes,
    /// LXC, systemd-nspawn or another engine.
    Other,
}

/// The signs that a process runs in a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerSigns<'a> {
    /// The file `/.dockerenv` exists.
    pub dockerenv: bool,
    /// The file `/run/.containerenv` exists.
    pub containerenv: bool,
    /// The variable `KUBERNETES_SERVICE_HOST` is set.
    pub kubernetes: bool,
    /// The variable `container` of the process or of its pid 1: `podman`, `lxc`, `systemd-nspawn`.
    pub variable: Option<&'a str>,
    /// The text of `/proc/self/cgroup`.
    pub cgroup: &'a str,
}

impl Container {
    /// Returns the container that these signs show, if any.
    pub fn of(signs: &ContainerSigns<'_>) -> Option<Self> {
        let has_group = |name: &str| signs.cgroup.contains(name);
        match signs.variable {
            // First: containers of a pod also have the signs of their engine, whose command line
            // does not help there.
            _ if signs.kubernetes || has_group("kubepods") => Some(Container::Kubernetes),
            Some("podman") => Some(Container::Podman),
            // Before Docker: an image that was exported from a Docker container may contain
            // `/.dockerenv`.
            _ if signs.containerenv => Some(Container::Podman),
            _ if signs.dockerenv || has_group("/docker") => Some(Container::Docker),
            Some(other) if !other.is_empty() => Some(Container::Other),
            _ => None,
        }
    }

    /// Returns the name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Container::Docker => "a Docker container",
            Container::Podman => "a Podman container",
            Container::Kubernetes => "a Kubernetes pod",
            Container::Other => "a container",
        }
    }

    /// Returns the advice to start it with these capabilities (`SYS_ADMIN`) and the right to mount.
    pub fn give_capabilities(self, names: &[&str]) -> String {
        let add = names.iter().map(|name| format!(" --cap-add {name}")).collect::<String>();
        match self {
            Container::Docker => format!(
                "start it with `docker run{add} --security-opt apparmor=unconfined …`; \
                 for disks, which need loop devices, with `docker run --privileged …`"
            ),
            Container::Podman => format!(
                "start it with `sudo podman run{add} --security-opt seccomp=unconfined …`; \
                 for disks, which need loop devices, with `sudo podman run --privileged …`"
            ),
            Container::Kubernetes => format!(
                "set `securityContext: {{capabilities: {{add: [{}]}}}}` for this container; \
                 for disks, which need loop devices, `securityContext: {{privileged: true}}`",
                names.join(", ")
            ),
            Container::Other => format!(
                "start the container with the capabilities {} (systemd-nspawn: `--capability=all`)",
                names.join(", ")
            ),
        }
    }

    /// Returns the advice to start it without the filter or profile that refuses system calls.
    pub const fn lift_filters(self) -> &'static str {
        match self {
            Container::Docker => {
                "start it with `docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
                 --security-opt apparmor=unconfined …`, or with `--privileged`"
            }
            Container::Podman => {
                "start it with `sudo podman run --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
                 --security-opt label=disable …`, or with `--privileged`"
            }
            Container::Kubernetes => "set `securityContext: {privileged: true}` for this container",
            Container::Other => "start the container without its system call filter and security profile",
        }
    }

    /// Returns the advice to start it with all devices.
    pub const fn give_devices(self) -> &'static str {
        match self {
            Container::Docker => "start it with `docker run --privileged …`",
            Container::Podman => "start it with `sudo podman run --privileged …`",
            Container::Kubernetes => "set `securityContext: {privileged: true}` for this container",
            Container::Other => "give the container access to /dev/loop-control and the block devices 7:*",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_detected_by_its_signs() {
        let none = ContainerSigns::default();
        for (signs, container) in [
            (none, None),
            (ContainerSigns { cgroup: "0::/user.slice", ..none }, None),
            (ContainerSigns { variable: Some(""), ..none }, None),
            (ContainerSigns { dockerenv: true, ..none }, Some(Container::Docker)),
            (ContainerSigns { cgroup: "1:cpu:/docker/0a1b", ..none }, Some(Container::Docker)),
            (ContainerSigns { dockerenv: true, kubernetes: true, ..none }, Some(Container::Kubernetes)),
            (ContainerSigns { cgroup: "0::/kubepods.slice/x", ..none }, Some(Container::Kubernetes)),
            (ContainerSigns { containerenv: true, ..none }, Some(Container::Podman)),
            (ContainerSigns { variable: Some("podman"), dockerenv: true, ..none }, Some(Container::Podman)),
            (ContainerSigns { variable: Some("lxc"), ..none }, Some(Container::Other)),
        ] {
            assert_eq!(Container::of(&signs), container, "{signs:?}");
        }
    }
}
