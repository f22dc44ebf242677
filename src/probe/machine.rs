//! The kernel, this process's rights, and programs.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;

use rustix::thread::UnshareFlags;

use crate::exec;
use crate::host::{Container, ContainerSigns, Installer, Rights, Tool, Trial};

/// Returns the release of the running kernel.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Reads the rights of this process, and whether it is in a container.
pub fn rights() -> Rights {
    // An unreadable file counts as empty: the following trials decide.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // A container's pid 1 has the variable also if `sudo` or `env -i` removed it from this process.
    let of_first = fs::read("/proc/1/environ").unwrap_or_default();
    let of_first = String::from_utf8_lossy(&of_first).into_owned();
    let of_first = of_first.split('\0').find_map(|entry| entry.strip_prefix("container=")).map(str::to_owned);
    let variable = std::env::var("container").ok().or(of_first);
    let container = Container::of(&ContainerSigns {
        dockerenv: Path::new("/.dockerenv").exists(),
        containerenv: Path::new("/run/.containerenv").exists(),
        kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        variable: variable.as_deref(),
        cgroup: &read("/proc/self/cgroup"),
    });
    let uid = rustix::process::geteuid().as_raw();
    Rights::read(uid, &read("/proc/self/status"), &read("/proc/self/uid_map"), container)
}

/// Creates the namespaces of a sandbox, in a thread that ends at once and releases them.
pub fn namespaces() -> Trial {
    const EACH: [(UnshareFlags, &str); 5] = [
        (UnshareFlags::NEWNS, "make a mount namespace"),
        (UnshareFlags::NEWPID, "make a pid namespace"),
        (UnshareFlags::NEWUTS, "make a uts namespace"),
        (UnshareFlags::NEWIPC, "make an ipc namespace"),
        (UnshareFlags::NEWNET, "make a network namespace"),
    ];
    // Unsharing affects the calling thread only, so plywood's own mounts in the other threads stay.
    let trial = thread::spawn(|| {
        // SAFETY: only namespaces are unshared, in a thread that does nothing else afterwards.
        let unshare = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
        let mut trials = EACH.into_iter().map(|(flags, action)| try_action(action, || Ok(unshare(flags)?)));
        trials.find(|trial| *trial != Trial::Works).unwrap_or(Trial::Works)
    });
    trial.join().expect("making namespaces does not panic")
}

/// Returns true if a program is in `PATH` or root's directories, or if the file at its absolute
/// path exists.
pub fn is_installed(tool: &Tool) -> bool {
    exec::find(tool.name).is_some()
}

/// Returns the installer of this host's packages.
pub fn installer() -> Installer {
    let texts = ["/etc/os-release", "/usr/lib/os-release"].map(fs::read_to_string);
    Installer::of(&texts.into_iter().flatten().next().unwrap_or_default())
}

/// Returns the command that mounts `/proc` or `/dev`, if one of them is missing. Every plywood
/// command needs them.
pub fn missing_place() -> Option<&'static str> {
    let is_device = fs::metadata("/dev/null").is_ok_and(|null| null.file_type().is_char_device());
    match (Path::new("/proc/self").exists(), is_device) {
        (false, _) => Some("mount -t proc proc /proc"),
        (_, false) => Some("mount -t devtmpfs devtmpfs /dev (`/dev/null` is missing)"),
        _ => None,
    }
}

/// Tries one action, and records the reason if it fails.
pub fn try_action(action: impl Into<String>, tried: impl FnOnce() -> io::Result<()>) -> Trial {
    match tried() {
        Ok(()) => Trial::Works,
        Err(error) => {
            Trial::Fails { action: action.into(), errno: error.raw_os_error(), reason: error.to_string() }
        }
    }
}
