//! The commands of tasks that plywood does in place of elements.

use super::facts::HOOKS_IN_TARGET;
use super::packages::{distribution, requested, unwanted};
use crate::distro::PackageManager;
use crate::element::{Environment, PackageDataError, Selection, ServiceMap};
use crate::plan::{Action, CopyModes, GitCheckout, ResolvedSource, SourceContent, Task, Tasks};
use crate::port::{Access, Bind, View};

/// A command and its view of the file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) view: View,
    /// A mount that only this command sees.
    pub(super) bind: Option<Bind>,
}

impl Command {
    fn in_target(argv: Vec<String>) -> Self {
        Self { argv, view: View::Target, bind: None }
    }

    /// A script beside the target, which is at `TMP_MOUNT_PATH`: programs of the image may be gone
    /// by then.
    fn on_host(script: &str, arguments: &[&str]) -> Self {
        let words = ["sh", "-euc", script, "plywood"].into_iter().chain(arguments.iter().copied());
        Self { argv: words.map(str::to_owned).collect(), view: View::HostBare, bind: None }
    }
}

/// Returns the command that carries out `task`, one of `tasks`; `None` if there is nothing to do,
/// and for hooks.
pub(super) fn command(
    task: &Task,
    tasks: &Tasks,
    variables: &Environment,
    manager: PackageManager,
) -> Result<Option<Command>, PackageDataError> {
    let packages = |command: fn(PackageManager, &[String]) -> Vec<String>, names: &[String]| {
        (!names.is_empty()).then(|| Command::in_target(command(manager, names)))
    };
    Ok(match &task.action {
        // Hooks are files, a boot loader is for a disk, and a refresh sees other mounts than a
        // command.
        Action::Hook | Action::InstallBootLoader | Action::RefreshIndex => None,
        Action::InstallBootPackages => boot_packages(variables).map(Command::in_target),
        Action::Copy { from, to, modes } => Some(Command::in_target(copy(from, to, *modes))),
        Action::InstallInitScripts => init_scripts(tasks, variables).map(Command::in_target),
        Action::Write { to, text } => Some(Command::on_host(WRITE, &[to, text])),
        Action::AddServices => Some(Command::on_host(ADD_SERVICES, &[&services(tasks, variables)?])),
        Action::AddModuleSettings(dir) => Some(Command::in_target(module_settings(dir))),
        Action::Place(source) => Some(place(source)),
        Action::WriteManifests(texts) => {
            let words: Vec<_> =
                texts.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]).collect();
            Some(Command::on_host(WRITE_MANIFESTS, &words))
        }
        Action::CleanUp => Some(Command::on_host(CLEAN_UP, &[])),
        Action::SetResolverAside => Some(Command::on_host(SET_RESOLVER_ASIDE, &[])),
        Action::PutResolverBack => Some(Command::on_host(PUT_RESOLVER_BACK, &[])),
        Action::Install(names) => packages(PackageManager::install, names),
        Action::InstallRequested => {
            packages(PackageManager::install, &requested(&tasks.requesting, task.phase, variables)?)
        }
        Action::InstallAdded(list) => Some(Command::in_target(added_packages(list))),
        Action::RemoveUnwanted(phases) => {
            packages(PackageManager::remove, &unwanted(&tasks.requesting, phases, variables)?)
        }
    })
}

/// Copies a directory of the hooks directory onto one of the target, through symlinks such as
/// `/lib -> usr/lib`, which rsync and cp would replace or refuse. Owners are root; directories that
/// exist stay as they are. Needs no more than coreutils and find, as hooks do.
fn copy(from: &str, to: &str, modes: CopyModes) -> Vec<String> {
    const SCRIPT: &str = r#"umask 022
        cd "$1"
        find . -mindepth 1 -print0 | while IFS= read -r -d "" name; do
            if [[ -d $name && ! -L $name ]]; then
                [[ -d $2/$name ]] || mkdir "$2/$name"
                continue
            fi
            rm -f "$2/$name"
            cp -P "$name" "$2/$name"
            [[ -L $name ]] || chmod "$3" "$2/$name"
        done"#;
    let mode = match modes {
        CopyModes::Keep => "u+rwX,go+rX",
        CopyModes::Executable => "0755",
    };
    let from = format!("{HOOKS_IN_TARGET}/{from}");
    ["bash", "-euo", "pipefail", "-c", SCRIPT, "copy", &from, to, mode].map(str::to_owned).into()
}

/// Copies the init scripts for this image's init system. Source: diskimage-builder, element
/// dib-init-system.
fn init_scripts(tasks: &Tasks, variables: &Environment) -> Option<Vec<String>> {
    let init = variables.get("DIB_INIT_SYSTEM").filter(|init| !init.is_empty())?;
    let from = format!("init-scripts/{init}");
    let below = format!("{from}/");
    let (to, modes) = init_directory(init);
    tasks.hooks.keys().any(|path| path.starts_with(&below)).then(|| copy(&from, to, modes))
}

/// Returns where an init system looks for its scripts, and with which modes.
pub(super) fn init_directory(init: &str) -> (&'static str, CopyModes) {
    match init {
        "systemd" => ("/usr/lib/systemd/system", CopyModes::Keep),
        "upstart" => ("/etc/init", CopyModes::Keep),
        _ => ("/etc/init.d", CopyModes::Executable),
    }
}

/// Installs the packages of a plain list, by the map of the element that the list's name ends with,
/// if that has one.
///
/// Source: diskimage-builder, `elements/package-installs/bin/package-installs`.
fn added_packages(list: &str) -> Vec<String> {
    const SCRIPT: &str = r#"list=$1 element=${1##*/package-installs-}
        mapped() {
            if [ -e "/usr/share/pkg-map/$element" ]; then pkg-map --element "$element" "$1" && return; fi
            printf '%s\n' "$1"
        }
        wanted= unwanted=
        while read -r package || [ -n "$package" ]; do
            case $package in
            '' | '#'*) ;;
            -*) unwanted="$unwanted $(mapped "${package#-}")" ;;
            *) wanted="$wanted $(mapped "$package")" ;;
            esac
        done <"$list"
        [ -z "$wanted" ] || install-packages $wanted
        [ -z "$unwanted" ] || install-packages -e $unwanted"#;
    ["sh", "-euc", SCRIPT, "packages", &format!("{HOOKS_IN_TARGET}/{list}")].map(str::to_owned).into()
}

/// Source: diskimage-builder, elements modprobe and dracut-regenerate.
fn module_settings(dir: &str) -> Vec<String> {
    const SCRIPT: &str = r#"mkdir -p "$2"
for file in "$1"/*.conf; do
    [ ! -e "$file" ] || install -m 0644 "$file" "$2/"
done
[ ! -d "$1" ] || [ ! -x /usr/sbin/update-initramfs ] || update-initramfs -u"#;
    let (from, to) = (format!("{HOOKS_IN_TARGET}/{dir}"), format!("/etc/{dir}"));
    ["sh", "-euc", SCRIPT, "settings", &from, &to].map(str::to_owned).into()
}

/// Returns the services of elements as lines of a YAML document.
fn services(tasks: &Tasks, variables: &Environment) -> Result<String, PackageDataError> {
    let mut services = ServiceMap::default();
    for element in &tasks.requesting {
        if let Some(names) = element.service_names()? {
            services.add(&element.name, &names, distribution(variables))?;
        }
    }
    Ok(services.iter().map(|(service, name)| format!("{service}: {name}\n")).collect())
}

/// Puts a fetched source into the target. Its bytes depend only on the source that the plan
/// resolved.
fn place(resolved: &ResolvedSource) -> Command {
    let ResolvedSource { request, content, path } = resolved;
    const SOURCE: &str = "/tmp/plywood/source";
    let (kind, rest) = match (content, &request.selection) {
        (SourceContent::Git(checkout), _) => ("git", git_arguments(resolved, checkout)),
        (SourceContent::File(_), Selection::Tar(directory)) => ("tar", vec![directory.clone()]),
        (SourceContent::File(_), _) => ("file", Vec::new()),
    };
    let words = ["place-source", kind, SOURCE, &request.destination].map(str::to_owned);
    Command {
        argv: words.into_iter().chain(rest).collect(),
        view: View::HostBare,
        bind: Some(Bind { source: path.clone(), target: SOURCE.to_owned(), access: Access::ReadOnly }),
    }
}

/// The location is kept in the checkout's configuration, and so in a layer.
fn git_arguments(resolved: &ResolvedSource, checkout: &GitCheckout) -> Vec<String> {
    let GitCheckout { commit, branch, refs } = checkout;
    let refs = refs.iter().map(|(name, object)| format!("{object}:{name}"));
    [resolved.shown_location(), commit.clone(), branch.clone()].into_iter().chain(refs).collect()
}

const WRITE: &str = r#"file=$TMP_MOUNT_PATH$1
mkdir -p "$(dirname "$file")"
printf %s "$2" >"$file"
chmod 0644 "$file""#;

/// Each element's services come into one file, which is sorted as diskimage-builder's is.
const ADD_SERVICES: &str = r#"file=$TMP_MOUNT_PATH/usr/share/svc-map/services
mkdir -p "$(dirname "$file")"
[ -e "$file" ] || : >"$file"
printf %s "$1" | cat - "$file" | LC_ALL=C sort -o "$file"
chmod 0644 "$file""#;

/// A copy is kept beside the image. The copy is readable for the same users as the image.
///
/// Source: diskimage-builder, element manifests.
const WRITE_MANIFESTS: &str = r#"directory=$TMP_MOUNT_PATH${DIB_MANIFEST_IMAGE_DIR:-/etc/dib-manifests}
mkdir -p "$directory"
while [ $# -gt 0 ]; do
    printf %s "$2" >"$directory/$1"
    shift 2
done
save=${DIB_MANIFEST_SAVE_DIR:-$IMAGE_NAME.d/}
mkdir -p "$save"
cp -R --no-preserve=ownership "$directory" "$save"
find "$directory" -type f -exec chown 0:0 {} + -exec chmod 0600 {} +"#;

/// Installs the packages of the element `bootloader`, by its own map of names.
///
/// Source: diskimage-builder, `elements/bootloader/finalise.d/50-bootloader`.
fn boot_packages(variables: &Environment) -> Option<Vec<String>> {
    let variable = |name: &str| variables.get(name).map_or("", String::as_str);
    let architecture = variable("ARCH");
    let for_efi = format!("grub-efi-{architecture}");
    let names: &[&str] = match variable("DIB_BLOCK_DEVICE") {
        _ if !matches!(variable("DIB_SKIP_GRUB_PACKAGE_INSTALL"), "" | "False") => return None,
        _ if architecture.contains("ppc") => &["grub-ppc64"],
        "efi" => &["grub-efi", &for_efi],
        // Also where no element says how the disk starts: packages for both kinds exclude each
        // other.
        _ => &["grub-pc"],
    };
    let command = ["install-packages", "-m", "bootloader"];
    Some(command.iter().chain(names).map(|word| (*word).to_owned()).collect())
}

/// diskimage-builder's work after the hooks of cleanup.d.
///
/// Source: diskimage-builder, `lib/img-functions`, `finalise_base`.
const CLEAN_UP: &str = r#"cd "$TMP_MOUNT_PATH"
[ ! -d tmp ] || find tmp -xdev -mindepth 1 -delete
[ ! -d root ] || find root -xdev -type f -name '*.log' -delete
[ ! -d var/log ] || find var/log -xdev -type f -size +0 -exec truncate -s 0 {} +"#;

/// Tools that make a root file system leave a copy of the build host's resolver configuration in
/// it, which must not get into the image. Source: diskimage-builder, `lib/common-functions`,
/// `create_base`.
///
/// It is also the first to notice that no hook has made one.
const SET_RESOLVER_ASIDE: &str = r#"cd "$TMP_MOUNT_PATH"
[ -n "$(ls | grep -v -x -e lost+found -e tmp)" ] || { echo 'Failed to deploy the root element.'; exit 1; }
[ -d etc ] || { echo 'The root file system has no directory etc.'; exit 1; }
[ -e etc/resolv.conf ] || [ -L etc/resolv.conf ] || { : >etc/resolv.conf; chmod 0777 etc/resolv.conf; exit; }
[ -L etc/resolv.conf ] || ! cmp -s etc/resolv.conf /etc/resolv.conf || : >etc/resolv.conf
mv etc/resolv.conf etc/resolv.conf.ORIG
: >etc/resolv.conf
chmod 0777 etc/resolv.conf"#;

/// The machine's configuration is in no layer, so that a file with text is a hook's own. It stays,
/// unless a hook wrote `resolv.conf.ORIG` after it: both are places for the image's configuration.
/// The mode is that of [`SET_RESOLVER_ASIDE`].
///
/// Source: diskimage-builder, `lib/img-functions`, `finalise_base`.
const PUT_RESOLVER_BACK: &str = r#"cd "$TMP_MOUNT_PATH/etc"
case $(lsattr -d resolv.conf 2>/dev/null) in ????i*) kept=yes ;; *) kept= ;; esac
if [ -L resolv.conf ] || [ -n "$kept" ]; then
    rm -f resolv.conf.ORIG
elif [ -s resolv.conf ] && ! [ resolv.conf.ORIG -nt resolv.conf ]; then
    rm -f resolv.conf.ORIG
    [ "$(stat -c %a resolv.conf)" != 777 ] || chmod 0644 resolv.conf
else
    rm -f resolv.conf
    [ ! -e resolv.conf.ORIG ] && [ ! -L resolv.conf.ORIG ] || mv resolv.conf.ORIG resolv.conf
fi"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{GitReference, Phase, SourceRequest, fixture::element};

    fn argv(action: Action, tasks: &Tasks, init: &str, manager: PackageManager) -> Option<String> {
        let task = Task { phase: Phase::Install, name: "x".to_owned(), action };
        let variables = [("DIB_INIT_SYSTEM".to_owned(), init.to_owned())].into();
        command(&task, tasks, &variables, manager).unwrap().map(|command| command.argv.join(" "))
    }

    #[test]
    fn a_checkout_does_not_tell_who_fetched_it() {
        let request = SourceRequest {
            name: "web".to_owned(),
            destination: "/opt/web".to_owned(),
            location: "https://me:hunter2@h/web".to_owned(),
            selection: Selection::Git(GitReference::One("v1".to_owned())),
        };
        let checkout =
            GitCheckout { commit: "c0ffee".to_owned(), branch: "trunk".to_owned(), refs: Vec::new() };
        let source = ResolvedSource { request, content: SourceContent::Git(checkout), path: "mirror".into() };
        let placed =
            argv(Action::Place(Box::new(source)), &Tasks::default(), "", PackageManager::Apt).unwrap();
        assert!(placed.ends_with("/opt/web https://me:***@h/web c0ffee trunk"), "{placed}");
    }

    #[test]
    fn packages_are_installed_by_the_images_own_command_if_its_elements_bring_one() {
        let names = || Action::Install(vec!["vim".to_owned(), "git".to_owned()]);
        for (action, manager, expected) in [
            (names(), PackageManager::Apt, Some("apt-get --assume-yes --quiet install vim git")),
            (names(), PackageManager::Dnf, Some("dnf --assumeyes install vim git")),
            (names(), PackageManager::OfElements, Some("install-packages vim git")),
            (Action::Install(Vec::new()), PackageManager::OfElements, None),
            (Action::InstallRequested, PackageManager::OfElements, None),
        ] {
            assert_eq!(argv(action, &Tasks::default(), "systemd", manager).as_deref(), expected);
        }
    }

    #[test]
    fn packages_of_the_boot_loader_follow_the_disk() {
        for (device, architecture, skip, expected) in [
            ("mbr", "amd64", "False", Some("install-packages -m bootloader grub-pc")),
            ("gpt", "amd64", "", Some("install-packages -m bootloader grub-pc")),
            ("efi", "amd64", "", Some("install-packages -m bootloader grub-efi grub-efi-amd64")),
            ("efi", "arm64", "", Some("install-packages -m bootloader grub-efi grub-efi-arm64")),
            ("mbr", "ppc64el", "", Some("install-packages -m bootloader grub-ppc64")),
            ("", "amd64", "", Some("install-packages -m bootloader grub-pc")),
            ("mbr", "amd64", "True", None),
        ] {
            let pairs = [
                ("DIB_BLOCK_DEVICE", device),
                ("ARCH", architecture),
                ("DIB_SKIP_GRUB_PACKAGE_INSTALL", skip),
            ];
            let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let found = boot_packages(&variables).map(|words| words.join(" "));
            assert_eq!(found.as_deref(), expected, "{device} {architecture}");
        }
    }

    #[test]
    fn init_scripts_go_where_the_init_system_looks() {
        let scripts = ["systemd", "upstart", "sysv"].map(|name| format!("init-scripts/{name}/e"));
        let element = scripts.iter().fold(element("e"), |element, path| element.file(path, "")).build();
        let element = std::sync::Arc::new(element);
        let hooks = element.files.keys().map(|path| (path.clone(), element.clone())).collect();
        let tasks = Tasks { hooks, ..Tasks::default() };
        for (init, expected) in [
            ("systemd", Some("/tmp/in_target.d/init-scripts/systemd /usr/lib/systemd/system u+rwX,go+rX")),
            ("upstart", Some("/tmp/in_target.d/init-scripts/upstart /etc/init u+rwX,go+rX")),
            ("sysv", Some("/tmp/in_target.d/init-scripts/sysv /etc/init.d 0755")),
            ("openrc", None),
            ("", None),
        ] {
            let found = argv(Action::InstallInitScripts, &tasks, init, PackageManager::Apt);
            let found = found.as_deref().map(|words| words.split_once("copy ").unwrap().1);
            assert_eq!(found, expected, "{init}");
        }
    }
}
