//! The view of a job: its root, new kernel file systems, its own `/run` and `/dev`, and its binds.

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_move, unmount};

use super::machine;
use super::mount::{self, Mount};
use super::overlay::{self, Top};
use super::resolver::RESOLVER;
use super::setup;
use super::shape::Shape;
use super::target::MadeTargets;
use super::tools::{HOST_TOOLS, IMAGE_TOOLS, LIBRARY, OF_DPKG, RUN_PARTS, SERVICE_POLICY, TOOLS};
use super::watch::{Trace, Watch};
use super::wire::{Assignment, Terminal};
use crate::directory::open_in_root;
use crate::distro::PRIVATE;
use crate::port::{Access, Bind, Job, Network, SandboxError, View};

/// The directories of a job's root that the sandbox mounts over, relative to it. Nothing that a job
/// writes there is in a layer.
pub(super) const OWN_MOUNTS: [&str; 4] = ["proc", "sys", "dev", "run"];

/// The directories that are also mounted over in the target of a host phase.
pub(super) const KERNEL_MOUNTS: [&str; 3] = ["proc", "sys", "dev"];

/// Home directories of the build host. They are hidden, because they are not part of the key.
const HOMES: [&str; 2] = ["/root", "/home"];

/// The program that forbids package scripts to start services. Mounted over a job's root if the
/// root has it or it can be made.
pub(super) const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The path of the build host's resolver configuration in every sandbox.
const MACHINES_RESOLVER: &str = "/run/plywood/resolv.conf";

/// Files of `/proc` that change the whole build host: kernel settings, and keys that reboot it.
const MACHINE_WIDE: [&str; 2] = ["/proc/sys", "/proc/sysrq-trigger"];

/// The device nodes of a job: name, major and minor number. There are no disks or other devices of
/// the build host.
///
/// Source: the kernel's `Documentation/admin-guide/devices.txt`.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Switches this process, which must be alone in its mount namespace, to the view that `assignment`
/// asks for.
///
/// Returns the watch over the files of the host that the job opens, if the assignment asks for one;
/// or the reason why the kernel cannot watch them.
pub(super) fn enter(assignment: &Assignment) -> Result<Trace, SandboxError> {
    // First, while the paths of the binds still mean files of the build host.
    let mut machine = Machine::read(assignment)?;
    let (root, trace) = Assembly::attach(assignment, &mut machine)?;
    root.mount_kernel_files()?;
    root.mount_devices()?;
    // After `/dev`, before the binds: the resolver configuration may be a symlink into `/run`, and
    // binds may have targets in all of these.
    root.mount_run(&machine.resolver)?;
    if assignment.job.view == View::Host {
        // Copies of the mounts above, so that a `chroot` into the target finds the protected
        // `/proc` and not another one.
        root.mount_below_target()?;
    }
    // Before the binds, which show parts of the hidden directory at other paths.
    root.hide(assignment)?;
    for (bind, source) in assignment.job.binds.iter().zip(machine.sources) {
        source.map_or(Ok(()), |source| root.bind(source, bind))?;
        // A bind may uncover the directory again: the caller's directory may contain the store.
        // Binds are ordered so that a directory comes before those inside it, so this covers no
        // bind of something inside the store.
        if assignment.hidden.as_ref().is_some_and(|hidden| hidden.starts_with(&bind.target)) {
            root.hide(assignment)?;
        }
    }
    if let Some(terminal) = machine.terminal {
        root.mount(&terminal, "the terminal", "/dev/console")?;
    }
    leave_machine(&root.path)?;
    Ok(trace)
}

/// Parts of the build host that a job gets, read before the view covers the host.
struct Machine {
    resolver: Vec<u8>,
    /// The mount of each of the job's binds; `None` once it is attached.
    sources: Vec<Option<Mount>>,
    terminal: Option<Mount>,
}

impl Machine {
    fn read(assignment: &Assignment) -> Result<Self, SandboxError> {
        let resolver = resolver_of(&assignment.job);
        let sources =
            assignment.job.binds.iter().map(|bind| source_of(bind).map(Some)).collect::<Result<_, _>>()?;
        Ok(Self { resolver, sources, terminal: terminal_of(assignment.terminal) })
    }

    /// Takes the mount of the bind at `target`, if there is one.
    fn take(&mut self, assignment: &Assignment, target: &str) -> Option<Mount> {
        let place = assignment.job.binds.iter().position(|bind| bind.target == target)?;
        self.sources[place].take()
    }
}

/// Returns the resolver configuration for `job`: that of the build host, or an empty one without a
/// network.
pub(super) fn resolver_of(job: &Job) -> Vec<u8> {
    match job.network {
        Network::Host => fs::read(RESOLVER).unwrap_or_default(),
        Network::None => Vec::new(),
    }
}

fn source_of(bind: &Bind) -> Result<Mount, SandboxError> {
    let tree = match bind.access {
        Access::ReadOnly => Mount::tree(&bind.source).and_then(|tree| tree.read_only()),
        Access::ReadWrite => Mount::tree(&bind.source),
        Access::CopyOnWrite => copy_on_write(&bind.source),
    };
    tree.map_err(mount::error(bind.source.display(), &bind.target))
}

/// Mounts an overlay of the directories [`Bind::LAYERS`]. If their file system cannot be part of an
/// overlay, copies the lower files.
fn copy_on_write(source: &Path) -> io::Result<Mount> {
    let [below, own, work] = Bind::LAYERS.map(|name| source.join(name));
    let top = Top { upper: &own, work: &work };
    overlay::mount(std::slice::from_ref(&below), Some(top)).or_else(|_| {
        for entry in fs::read_dir(&below)? {
            let entry = entry?;
            let copy = own.join(entry.file_name());
            if entry.file_type()?.is_file() && !copy.exists() {
                fs::copy(entry.path(), &copy)?;
                // With its time: apt compares size and time to decide whether an index fits.
                fs::File::options().write(true).open(copy)?.set_modified(entry.metadata()?.modified()?)?;
            }
        }
        Mount::tree(&own)
    })
}

/// Returns the caller's terminal if standard input is one. Mounted in the view, it gives programs
/// such as tty(1) a name for it.
fn terminal_of(terminal: Terminal) -> Option<Mount> {
    let is_terminal = terminal == Terminal::Inherited && io::stdin().is_terminal();
    is_terminal.then(|| fs::read_link("/proc/self/fd/0").and_then(|name| Mount::tree(&name)).ok()).flatten()
}

/// A job's root while it is assembled, at a path of the build host.
struct Assembly {
    path: PathBuf,
    root: OwnedFd,
}

impl Assembly {
    /// Mounts the job's `/` over the path where plywood has mounted the target.
    fn attach(assignment: &Assignment, host: &mut Machine) -> Result<(Self, Trace), SandboxError> {
        let failed = || mount::error(assignment.root.display(), "/");
        // A copy, before the path is covered by the job's own root.
        let target = Mount::tree(&assignment.root).map_err(failed())?;
        match assignment.job.view {
            View::Target => Ok((Self::at(&target, &assignment.root).map_err(failed())?, Trace::NotAsked)),
            View::Host | View::HostBare => {
                let (root, trace) = Self::machine(assignment)?;
                match host.take(assignment, "/tmp") {
                    // Before the target, which is mounted below `/tmp`.
                    Some(tmp) => root.mount_tmp(tmp)?,
                    None => {
                        root.mount_fresh("/tmp", "1777", |tmp| fs::create_dir_all(tmp.join(BELOW_TMP)))?
                    }
                }
                root.mount(&target, &assignment.root.display().to_string(), View::HOST_MOUNT)?;
                for home in HOMES.into_iter().filter(|home| Path::new(home).is_dir()) {
                    root.mount_fresh(home, "0700", |_| Ok(()))?;
                }
                Ok((root, trace))
            }
        }
    }

    /// Mounts a directory in place of a fresh `/tmp`.
    fn mount_tmp(&self, tmp: Mount) -> Result<(), SandboxError> {
        let attached = self.place("/tmp").and_then(|place| tmp.attach(place.as_fd()));
        let targets = &mut MadeTargets::default();
        let made = attached.and_then(|()| targets.make(&self.path, View::HOST_MOUNT, Shape::Directory, &[]));
        made.map(drop).map_err(mount::error("a directory", "/tmp"))
    }

    /// Mounts the root of the build host read-only, or the tools in its place. Watches it if the job
    /// asks for that and the kernel can do it.
    fn machine(assignment: &Assignment) -> Result<(Self, Trace), SandboxError> {
        let failed = || mount::error(assignment.root.display(), "/");
        let watch = assignment.job.traced.then(Watch::new);
        let trace = match watch {
            Some(Ok(watch)) => {
                let (root, watch) = machine::attach(watch, &assignment.root).map_err(failed())?;
                return Ok((Self { path: assignment.root.clone(), root }, Trace::Watched(watch)));
            }
            Some(Err(error)) => {
                Trace::Impossible(format!("the kernel cannot report the files that hooks open: {error}"))
            }
            None => Trace::NotAsked,
        };
        let machine = assignment.job.tools.as_deref().unwrap_or("/".as_ref());
        let machine = Mount::tree(machine).and_then(|machine| machine.read_only()).map_err(failed())?;
        Ok((Self::at(&machine, &assignment.root).map_err(failed())?, trace))
    }

    fn at(mount: &Mount, path: &Path) -> io::Result<Self> {
        mount.attach_at(path)?;
        Ok(Self { path: path.to_owned(), root: mount::place(path)? })
    }

    fn mount_kernel_files(&self) -> Result<(), SandboxError> {
        self.mount_kind("proc", &[], "/proc")?;
        for path in MACHINE_WIDE {
            match self.protect(path) {
                // Some kernels are built without sysrq.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(mount::error(path, path))?,
            }
        }
        Mount::filesystem("sysfs", &[])
            .and_then(|sysfs| sysfs.read_only()?.attach(self.place("/sys")?.as_fd()))
            .map_err(mount::error("sysfs", "/sys"))
    }

    /// Mounts a read-only copy of `path` over it.
    fn protect(&self, path: &str) -> io::Result<()> {
        self.tree(path)?.read_only()?.attach(self.place(path)?.as_fd())
    }

    fn mount_devices(&self) -> Result<(), SandboxError> {
        self.mount_fresh("/dev", "0755", make_devices)?;
        // Without these options, only root could open `ptmx`, and terminals would not belong to
        // group 5, which is `tty` on Debian, Fedora and SUSE.
        self.mount_kind("devpts", &[("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")], "/dev/pts")?;
        self.mount_kind("tmpfs", &[("mode", "1777")], "/dev/shm")
    }

    /// Mounts an empty `/run`, puts the sandbox's own files into it, and mounts some of them at
    /// other paths.
    fn mount_run(&self, resolver: &[u8]) -> Result<(), SandboxError> {
        self.mount_fresh("/run", "0755", |run| {
            make_directory(&run.join("lock"), 0o1777)?;
            let own = run.join("plywood");
            write_file(&own.join("resolv.conf"), resolver, 0o644)?;
            write_file(&own.join("policy-rc.d"), SERVICE_POLICY.as_bytes(), 0o755)?;
            let tools = [("bin", &TOOLS[..]), ("image-bin", &IMAGE_TOOLS[..]), ("host-bin", &HOST_TOOLS[..])];
            // Hooks ask for these commands to find out what they run on.
            let is_shown = |name: &str| !OF_DPKG.contains(&name) || self.place("/var/lib/dpkg").is_ok();
            for (directory, tools) in tools {
                for (name, text) in tools.iter().filter(|(name, _)| is_shown(name)) {
                    write_file(&own.join(directory).join(name), text.as_bytes(), 0o755)?;
                }
            }
            write_file(&own.join("lib/dib-run-parts"), RUN_PARTS.as_bytes(), 0o755)?;
            LIBRARY
                .iter()
                .try_for_each(|(name, text)| write_file(&own.join("lib").join(name), text.as_bytes(), 0o644))
        })?;
        let policy = format!("{PRIVATE}/policy-rc.d");
        self.show(&policy, POLICY).map_err(mount::error(&policy, POLICY))?;
        // plywood writes the configuration into writable roots before the job, see `resolver`. A
        // mount over it would keep hooks from replacing the file.
        if self.content(RESOLVER).is_some_and(|found| found == resolver) {
            return Ok(());
        }
        self.show(MACHINES_RESOLVER, RESOLVER).map_err(mount::error(MACHINES_RESOLVER, RESOLVER))
    }

    /// Returns the content of a regular file, as seen from inside the root.
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        let place = self.place(path).ok()?;
        let file = mount::path_of(&place);
        fs::metadata(&file).is_ok_and(|entry| entry.is_file()).then(|| fs::read(&file).ok()).flatten()
    }

    /// Mounts the kernel file systems in the target of a host phase, for hooks that `chroot` into
    /// it.
    fn mount_below_target(&self) -> Result<(), SandboxError> {
        let target = self.place(View::HOST_MOUNT).map_err(mount::error("the target", View::HOST_MOUNT))?;
        for name in KERNEL_MOUNTS {
            let shown = self.tree(name).and_then(|tree| tree.attach(place(&target, name)?.as_fd()));
            shown.map_err(mount::error(name, Path::new(View::HOST_MOUNT).join(name)))?;
        }
        Ok(())
    }

    /// Mounts a file of the assembled root over another. Does nothing if the other is absent and
    /// the root is read-only.
    fn show(&self, source: &str, target: &str) -> io::Result<()> {
        match MadeTargets::default().make(&self.path, target, Shape::File, &[]) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => other.and_then(|_| self.tree(source)?.attach(self.place(target)?.as_fd())),
        }
    }

    fn bind(&self, source: Mount, bind: &Bind) -> Result<(), SandboxError> {
        source
            .shape()
            .and_then(|shape| MadeTargets::default().make(&self.path, &bind.target, shape, &[]))
            .and_then(|_| source.attach(self.place(&bind.target)?.as_fd()))
            .map_err(mount::error(bind.source.display(), &bind.target))
    }

    /// Mounts a tmpfs at `target`. Before that, `fill` writes its first content below the path that
    /// it gets.
    fn mount_fresh(
        &self,
        target: &str,
        mode: &str,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), SandboxError> {
        Mount::filesystem("tmpfs", &[("mode", mode)])
            .and_then(|tmpfs| {
                fill(&tmpfs.path())?;
                tmpfs.attach(self.place(target)?.as_fd())
            })
            .map_err(mount::error("tmpfs", target))
    }

    /// Covers the directory that the job must not see, if its root has it.
    fn hide(&self, assignment: &Assignment) -> Result<(), SandboxError> {
        // plywood refuses a store whose path is not UTF-8 before any job runs.
        let Some(hidden) = assignment.hidden.as_ref().and_then(|hidden| hidden.to_str()) else {
            return Ok(());
        };
        match self.place(hidden) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(())
            }
            // After any other error, mounting fails with it, too: a directory that cannot be
            // covered must not stay visible.
            _ => self.mount_fresh(hidden, "0700", |_| Ok(())),
        }
    }

    fn mount_kind(&self, kind: &str, options: &[(&str, &str)], target: &str) -> Result<(), SandboxError> {
        Mount::filesystem(kind, options)
            .and_then(|mount| mount.attach(self.place(target)?.as_fd()))
            .map_err(mount::error(kind, target))
    }

    fn mount(&self, mount: &Mount, what: &str, target: &str) -> Result<(), SandboxError> {
        self.place(target).and_then(|place| mount.attach(place.as_fd())).map_err(mount::error(what, target))
    }

    /// Copies the mount at `path`, as seen from inside the root.
    fn tree(&self, path: &str) -> io::Result<Mount> {
        Mount::tree(&mount::path_of(&self.place(path)?))
    }

    /// Opens `path` as seen from inside the root: no symlink leads out of it.
    fn place(&self, path: &str) -> io::Result<OwnedFd> {
        place(&self.root, path)
    }
}

/// Opens `path` as seen from inside `root`.
fn place(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    Ok(open_in_root(root, Path::new(path), OFlags::PATH)?)
}

/// [`View::HOST_MOUNT`] relative to `/tmp`.
const BELOW_TMP: &str = "plywood/mnt";

fn make_devices(dev: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in DEVICES {
        mknodat(CWD, dev.join(name), FileType::CharacterDevice, mode, makedev(major, minor))?;
        // The umask has cleared write permissions of the mode that mknod(2) got.
        fs::set_permissions(dev.join(name), Permissions::from_mode(0o666))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name))?;
    }
    // A mount point for the caller's terminal.
    fs::write(dev.join("console"), "")?;
    ["pts", "shm"].into_iter().try_for_each(|name| fs::create_dir(dev.join(name)))
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, content)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes `root` this process' `/`, and unmounts everything of the build host in this namespace.
/// With chroot(2) alone, a job could get out of its root.
fn leave_machine(root: &Path) -> Result<(), SandboxError> {
    let left = rustix::process::chdir(root)
        .and_then(|()| match rustix::process::pivot_root(".", ".") {
            // The build host runs in its initramfs, whose root file system cannot be pivoted.
            // Moving a mount over it hides it.
            Err(Errno::INVAL) => mount_move(".", "/").and_then(|()| rustix::process::chroot(".")),
            // pivot_root(2) with twice the same directory stacks the old root over the new one, so
            // no directory for it is needed in the image. "." then means the upper of both. The
            // unmount is detached, because it must take all other file systems of the host along,
            // which are mounted below.
            pivoted => pivoted.and_then(|()| unmount(".", UnmountFlags::DETACH)),
        })
        .and_then(|()| rustix::process::chdir("/"));
    left.map_err(setup("switch the root directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_host_phases_is_in_their_private_tmp() {
        assert_eq!(View::HOST_MOUNT, format!("/tmp/{BELOW_TMP}"));
    }
}
