//! Hints: the next command or edit for each kind of error.

use std::error::Error;
use std::io;
use std::path::Path;

use super::cut::cut;
use crate::element::{ResolveError, shell_word};
use crate::engine::{BuildError, NothingKept, Outcome, OutputError, PullError, RegistryError, TlsTrouble};
use crate::load::{KeyFileError, LoadError};
use crate::plan::PlanError;
use crate::port::{DiskError, Exit, IoError, Limit, PackageError, RemoteError, StoreError};
use crate::probe;

/// The maximum number of characters that a message shows of each line of a hook's output.
const TAIL_CHARACTERS: usize = 500;

/// Returns the lines that follow an error's message: the end of a hook's output, and the path of
/// its log.
pub(super) fn details(error: &(dyn Error + 'static)) -> Vec<String> {
    let outcome = match error.downcast_ref::<BuildError>() {
        Some(BuildError::HookFailed(failure)) => &failure.outcome,
        Some(BuildError::TaskFailed { outcome, .. } | BuildError::EnvironmentFailed { outcome, .. }) => {
            outcome
        }
        _ => return Vec::new(),
    };
    let Outcome { tail, log, .. } = outcome;
    let lines =
        tail.iter().map(|line| format!("  | {}", cut(line.clone(), TAIL_CHARACTERS, TAIL_CHARACTERS - 100)));
    lines.chain([format!("  all of its output: {}", log.display())]).collect()
}

/// Returns the command or edit that solves an error, if one is known. `plywood` is the program's
/// name with the options for this project and store.
pub(super) fn for_error(error: &(dyn Error + 'static), plywood: &str) -> Option<String> {
    error
        .downcast_ref::<BuildError>()
        .map(|error| build(error, plywood))
        .or_else(|| error.downcast_ref::<NothingKept>().map(|error| keep_failed(error, plywood)))
        .or_else(|| error.downcast_ref::<LoadError>().map(LoadError::hint))
        .or_else(|| error.downcast_ref::<ResolveError>().map(|error| resolve(error, plywood)))
        .or_else(|| error.downcast_ref::<PlanError>().map(plan))
        .or_else(|| error.downcast_ref::<PackageError>().map(|error| packages(error, plywood)))
        .or_else(|| error.downcast_ref::<StoreError>().map(|error| store(error, plywood)))
        .or_else(|| error.downcast_ref::<DiskError>().map(|error| disk(error, plywood)))
        .or_else(|| error.downcast_ref::<RemoteError>().map(|error| remote(error, plywood)))
        .or_else(|| error.downcast_ref::<KeyFileError>().map(|error| key(error, plywood)))
        .or_else(|| error.downcast_ref::<io::Error>().map(full_disk))
        .or_else(|| error.downcast_ref::<OutputError>().map(output))
        .or_else(|| error.downcast_ref::<RegistryError>().map(registry))
        .or_else(|| error.downcast_ref::<PullError<StoreError>>().map(|error| pull(error, plywood)))
        .flatten()
        // Without these directories nearly everything fails, with misleading reasons.
        .or_else(|| probe::missing_place().map(str::to_owned))
}

fn keep_failed(NothingKept { image }: &NothingKept, plywood: &str) -> Option<String> {
    Some(format!("{plywood} build {image} --keep-failed"))
}

fn build(error: &BuildError, plywood: &str) -> Option<String> {
    match error {
        // First: on a full disk, hooks fail with many different messages.
        BuildError::HookFailed(failure) if has_no_room(&failure.outcome) => Some(make_room(plywood)),
        BuildError::TaskFailed { outcome, .. } if has_no_room(outcome) => Some(make_room(plywood)),
        BuildError::TaskFailed { step, outcome, .. }
            if let Some(cure) = archive_trouble(&outcome.tail, step.is_lowest()) =>
        {
            Some(cure.to_owned())
        }
        BuildError::HookFailed(failure) if let Exit::OverLimit(limit) = failure.outcome.exit => {
            Some(raise(limit))
        }
        BuildError::TaskFailed { outcome, .. } if let Exit::OverLimit(limit) = outcome.exit => {
            Some(raise(limit))
        }
        BuildError::HookFailed(failure) if failure.outcome.is_kept => {
            Some(look_at_failed(plywood, &failure.image))
        }
        BuildError::EnvironmentFailed { image, outcome, .. }
        | BuildError::TaskFailed { image, outcome, .. }
            if outcome.is_kept =>
        {
            Some(look_at_failed(plywood, image))
        }
        BuildError::HookFailed(failure) => {
            let hook = format!("{}:{}/{}", failure.step, failure.phase, failure.hook);
            Some(look_inside(plywood, &failure.image, &hook))
        }
        BuildError::EnvironmentFailed { image, step, .. } => {
            Some(look_inside(plywood, image, &step.to_string()))
        }
        BuildError::TaskFailed { image, step, .. } if !step.is_lowest() => {
            Some(look_inside(plywood, image, &step.to_string()))
        }
        BuildError::NoSuchHook { known, .. } => Some(format!("its hooks and tasks: {}", known.join(", "))),
        BuildError::Miss { image, .. } => Some(format!("{plywood} build {image}")),
        BuildError::NoBootLoader { package, .. } => Some(format!(
            "add the element `bootloader`, which installs {package}, or name the firmware under `disk` that the image is for"
        )),
        BuildError::Packages(error) => packages(error, plywood),
        BuildError::Store(error) => store(error, plywood),
        BuildError::Disk(error) => disk(error, plywood),
        _ => None,
    }
}

fn raise(limit: Limit) -> String {
    let key = limit.key();
    format!(
        "to allow more: raise the limit with `--{key}`, or with `{key}` in the table `[limits]` of plywood.toml"
    )
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// Returns the commands that show the state before and after a step or hook.
fn look_inside(plywood: &str, image: &str, at: &str) -> String {
    let at = shell_word(at);
    format!(
        "to open a shell on the state that it left: {plywood} build {image} --on-error shell; \
         on the state before it: {plywood} shell {image} --at {at}"
    )
}

fn look_at_failed(plywood: &str, image: &str) -> String {
    format!("to open a shell on the state that it left: {plywood} shell {image} --failed")
}

/// Returns true if a job printed that the disk was full.
fn has_no_room(outcome: &Outcome) -> bool {
    outcome.tail.iter().any(|line| line.contains("No space left on device"))
}

/// What apt and dpkg print about trouble with an archive, and the cure. The first match counts: if
/// a key is unknown, apt also says that the archive is not signed.
///
/// apt before 3 verifies with gpgv, later ones with sqv, which has other messages.
const ARCHIVE_TROUBLE: [(&str, &str); 15] = [
    ("NO_PUBKEY", UNKNOWN_KEY),
    ("EXPKEYSIG", EXPIRED_KEY),
    ("Missing key", UNKNOWN_KEY),
    (
        "Policy rejected",
        "apt of this host refuses the key or its signature, which use an old algorithm such as SHA-1: build on a \
         host with an older apt (Debian 12), or name a mirror signed by another key with `DIB_DISTRIBUTION_MIRROR` \
         and `DIB_APT_KEYRING=FILE`",
    ),
    ("Expired on", EXPIRED_KEY),
    (
        "is not signed",
        "plywood uses only signed archives: name another mirror with `DIB_DISTRIBUTION_MIRROR`",
    ),
    (
        "does not have a Release file",
        "this mirror lacks a suite of the base: name another mirror with `DIB_DISTRIBUTION_MIRROR`. Releases that \
         have ended move to archives such as http://archive.debian.org/debian and \
         http://old-releases.ubuntu.com/ubuntu",
    ),
    ("Mirror sync in progress", HALF_SYNCHRONIZED),
    ("Hash Sum mismatch", HALF_SYNCHRONIZED),
    (
        "is expired",
        "if the release has ended: set `Acquire::Check-Valid-Until \"false\";` in /etc/apt/apt.conf.d on this host. \
         Otherwise the mirror is old: name another with `DIB_DISTRIBUTION_MIRROR`",
    ),
    ("Could not resolve", UNREACHABLE),
    ("Temporary failure resolving", UNREACHABLE),
    ("Could not connect", UNREACHABLE),
    ("Unable to connect", UNREACHABLE),
    (
        "unknown compression for member",
        "the dpkg of this host cannot read the packages of this release: Ubuntu from 22.04 on needs dpkg 1.21.18 \
         or later (Debian 12, Ubuntu 22.04)",
    ),
];

const UNKNOWN_KEY: &str =
    "the keyring lacks the key that signs this archive: name a file that has it with `DIB_APT_KEYRING=FILE`";

const EXPIRED_KEY: &str = "the key in the keyring has expired: update the package that brings the keyring, or name another \
                           file with `DIB_APT_KEYRING=FILE`";

const HALF_SYNCHRONIZED: &str =
    "the mirror is being synchronized: build again later, or name another with `DIB_DISTRIBUTION_MIRROR`";

const UNREACHABLE: &str = "the mirror does not answer: check the network and the proxy (`http_proxy`), or name another \
                           mirror with `DIB_DISTRIBUTION_MIRROR`";

/// Returns the cure for a task that failed because of a package archive. A base has only archives
/// of the distribution; above it, an archive of an element may be the cause, which other keys and
/// mirrors of the distribution do not cure.
fn archive_trouble(tail: &[String], is_base: bool) -> Option<&'static str> {
    let is_printed = |text: &str| tail.iter().any(|line| line.contains(text));
    let mut known = ARCHIVE_TROUBLE.iter().filter(|(_, cure)| is_base || *cure == HALF_SYNCHRONIZED);
    known.find(|(text, _)| is_printed(text)).map(|(_, cure)| *cure)
}

fn make_room(plywood: &str) -> String {
    format!("{plywood} store gc, or another disk with `--store DIR`")
}

fn full_disk(error: &io::Error) -> Option<String> {
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    is_full.then(|| "free some space on that disk, or name another with `-o DIR` or `--store DIR`".to_owned())
}

fn output(error: &OutputError) -> Option<String> {
    let is_full = match error {
        OutputError::Io(error) => return error.hint(),
        OutputError::NoRoom { .. } => true,
        // qemu-img and mksquashfs have no special exit status for a full disk.
        OutputError::Program(error) => error.to_string().contains("No space left on device"),
        _ => false,
    };
    is_full.then(|| "free some space on that disk, or name another with `-o DIR`".to_owned())
}

fn resolve(error: &ResolveError, plywood: &str) -> Option<String> {
    match error {
        ResolveError::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
        ResolveError::Unknown { nearest: None, .. } => Some(format!(
            "{plywood} elements list (directories of elements are named by `elements` in `[project]`)"
        )),
        ResolveError::TwoProviders { .. } => Some(
            "leave one of them out of the image's `elements`, and of the `element-deps` of the others"
                .to_owned(),
        ),
        ResolveError::Cycle(_) => {
            Some(format!("remove one of these names from the file `element-deps` of the element before it, or {PHASE_ORDER}"))
        }
        ResolveError::NoOperatingSystem => Some(
            "add `base = \"debian-bookworm\"` to the image, or an element that makes one, such as `debian-minimal`".to_owned(),
        ),
        _ => None,
    }
}

const PHASE_ORDER: &str = "add `--order phase`, or `order = \"phase\"` to the image";

fn plan(error: &PlanError) -> Option<String> {
    match error {
        PlanError::DuplicateHook(_) => {
            Some("rename one of them: hooks of one image share a directory".to_owned())
        }
        PlanError::NeedsPhaseOrder { .. } => Some(PHASE_ORDER.to_owned()),
        _ => None,
    }
}

fn packages(error: &PackageError, plywood: &str) -> Option<String> {
    match error {
        PackageError::NoMirror { distro, variable, .. } => Some(format!(
            "{variable}=http://MIRROR/{distro} {plywood} build …, or name it with `mirror` in the base"
        )),
        PackageError::NoKeyring { path, variable, .. } => Some(no_keyring(path, variable)),
        PackageError::ToolMissing { program, package } => Some(probe::installer().cure(program, package)),
        PackageError::ProxyDetector { program, .. } => Some(format!(
            "run `{program} URL` to see what it answers, or set `Acquire::http::Proxy` in its place"
        )),
        PackageError::OfflineBase { .. } => Some(
            "build once without `--offline`: the store keeps the base. `--no-cache` makes it again, which needs the network"
                .to_owned(),
        ),
        PackageError::NoIndices | PackageError::NotDownloaded { .. } => {
            Some("build once without `--offline`: the store keeps what is downloaded".to_owned())
        }
        PackageError::Io(error) => error.hint(),
    }
}

/// The packages that contain the keyrings of plywood's bases, by file name.
const KEYRINGS: [(&str, &str); 2] = [
    ("debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("ubuntu-archive-keyring.gpg", "ubuntu-keyring"),
];

fn no_keyring(path: &Path, variable: &str) -> String {
    let name = format!("name a file of keys with `{variable}=FILE`");
    match KEYRINGS.iter().find(|(file, _)| path.file_name().is_some_and(|name| name == *file)) {
        Some((_, package)) => format!("{}, or {name}", probe::installer().cure(package, package)),
        None => name,
    }
}

const OTHER_STORE: &str = "choose a writable store with `--store DIR`";

fn store(error: &StoreError, plywood: &str) -> Option<String> {
    match error {
        StoreError::Newer { .. } | StoreError::NotAStore { .. } => {
            Some("choose another with `--store DIR`".to_owned())
        }
        StoreError::NotOwn { path, .. } => Some(format!(
            "if you trust what is in it: chown -R root: {0} && chmod -R go-w {0}. Otherwise choose another with `--store DIR`",
            quoted(path)
        )),
        StoreError::NoBase { .. } => Some(format!(
            "import it with `{plywood} import SOURCE NAME`, or name the store that has it with `--store DIR`"
        )),
        StoreError::NoRoom { .. } => Some(make_room(plywood)),
        StoreError::ReadOnly { .. } => Some(OTHER_STORE.to_owned()),
        StoreError::MissingBlob { .. }
        | StoreError::MissingLayer { .. }
        | StoreError::Damaged { .. }
        | StoreError::DamagedIndex { .. } => Some(format!("{plywood} store check")),
        StoreError::WrongBase { found, .. } => Some(format!(
            "get the file with the expected digest, or write `digest = \"{found}\"` into the base's definition"
        )),
        StoreError::Io(IoError { action, path, source }) => match source.kind() {
            // The path of the store itself is blocked. The hint does not suggest to remove the
            // file, because it is not a file of the store.
            io::ErrorKind::NotADirectory if *action == "open or make directory" => Some(
                "a file is in the place of one of its parents: choose another with `--store DIR`".to_owned(),
            ),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory if action.ends_with("directory") => {
                Some(format!("another file is in the place of a directory of the store: rm {}", quoted(path)))
            }
            io::ErrorKind::StorageFull => Some(make_room(plywood)),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Some(OTHER_STORE.to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}

fn remote(error: &RemoteError, plywood: &str) -> Option<String> {
    match error {
        RemoteError::KeepsAll { .. } => Some(
            "allow it in the registry's configuration (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true)"
                .to_owned(),
        ),
        RemoteError::KeepsDamaged { .. } => Some(
            "remove this blob from the registry's storage; the next build with `--cache-to` uploads it again".to_owned(),
        ),
        RemoteError::Store(error) => store(error, plywood),
        RemoteError::Failed { .. } | RemoteError::Damaged { .. } | RemoteError::Interrupted => None,
    }
}

fn key(error: &KeyFileError, plywood: &str) -> Option<String> {
    match error {
        KeyFileError::Exists { path } => Some(format!("{plywood} key show --sign-key {}", quoted(path))),
        KeyFileError::Read(IoError { path, source, .. }) => match source.kind() {
            io::ErrorKind::NotFound => Some(format!("{plywood} key generate --out {}", quoted(path))),
            io::ErrorKind::PermissionDenied => Some(format!(
                "build as the user who owns `{}`, or name another with `--sign-key`",
                path.display()
            )),
            _ => None,
        },
        KeyFileError::Make(_) | KeyFileError::Invalid { .. } => None,
    }
}

fn disk(error: &DiskError, plywood: &str) -> Option<String> {
    match error {
        DiskError::Io(error) => error.hint(),
        DiskError::ToolMissing { program, package } => Some(probe::installer().cure(program, package)),
        DiskError::NoDeviceMapper => Some(
            "lay the disk out without `lvm`, or build on a machine whose kernel has the module dm-mod"
                .to_owned(),
        ),
        DiskError::NoRoom { .. } => Some(make_room(plywood)),
        DiskError::TooSmall { .. } => {
            Some("use `size = \"auto\"`, or a larger size, under `disk`".to_owned())
        }
        _ => None,
    }
}

fn pull(error: &PullError<StoreError>, plywood: &str) -> Option<String> {
    match error {
        PullError::Registry(error) => registry(error),
        PullError::Taking(error) => store(error, plywood),
    }
}

fn registry(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::KeepsDamaged { digest, .. } => {
            Some(format!("restore or remove the data of {digest} in the registry's storage, then push again"))
        }
        RegistryError::Unauthorized { host, .. } => Some(format!("docker login {host}")),
        RegistryError::NoToken { host, source, .. } if matches!(source.status(), Some(401 | 403)) => {
            Some(format!("docker login {host}"))
        }
        RegistryError::PlainHttp { host } => Some(format!(
            "to allow unencrypted HTTP to this host: set `insecure = true` in `[registry.\"{host}\"]` of plywood.toml"
        )),
        error => error.tls_trouble().map(tls),
    }
}

fn tls(trouble: TlsTrouble) -> String {
    match trouble {
        TlsTrouble::Certificate => {
            "set `ca` to the file of its certificate authority, in the table `[registry.\"HOST\"]` of plywood.toml"
        }
        TlsTrouble::Authority => {
            "the registry presents a CA certificate as its server certificate: if you trust it, set `ca` to its file in the table `[registry.\"HOST\"]` of plywood.toml"
        }
        TlsTrouble::Client => {
            "set `client-cert` and `client-key` to the certificate that the registry requires, in the table `[registry.\"HOST\"]` of plywood.toml"
        }
        TlsTrouble::NoTls => {
            "if the registry speaks plain HTTP: to allow that, set `insecure = true` in the table `[registry.\"HOST\"]` of plywood.toml"
        }
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_with_an_archive_has_a_cure() {
        for (printed, of_base, above) in [
            ("W: GPG error: http://m noble InRelease: NO_PUBKEY 871920D1991BC93C", Some(UNKNOWN_KEY), None),
            (
                "error message is: Missing key F6EC, which is needed to verify signature.",
                Some(UNKNOWN_KEY),
                None,
            ),
            ("The following signatures were invalid: EXPKEYSIG 871920D1991BC93C", Some(EXPIRED_KEY), None),
            ("E: Could not connect to m:80 (192.0.2.1). - connect (111)", Some(UNREACHABLE), None),
            ("E: Hash Sum mismatch", Some(HALF_SYNCHRONIZED), Some(HALF_SYNCHRONIZED)),
            ("E: Unable to locate package web", None, None),
        ] {
            let tail =
                [printed.to_owned(), "E: The repository 'http://m noble InRelease' failed.".to_owned()];
            assert_eq!((archive_trouble(&tail, true), archive_trouble(&tail, false)), (of_base, above));
        }
        let unsigned = "E: The repository 'http://m noble InRelease' is not signed.".to_owned();
        let unknown = "NO_PUBKEY 871920D1991BC93C".to_owned();
        assert_eq!(archive_trouble(&[unsigned, unknown], true), Some(UNKNOWN_KEY));
    }
}
