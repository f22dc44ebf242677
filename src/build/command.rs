//! What plywood does for elements, as commands.

use super::packages::{requested, unwanted};
use super::step::HOOKS_IN_TARGET;
use crate::distro::{apt, apt::Choices};
use crate::element::{Environment, PackageDataError};
use crate::plan::{Action, CopyModes, Task, Tasks};
use crate::port::View;

/// A command, and whose files it sees.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) view: View,
}

impl Command {
    fn in_target(argv: Vec<String>) -> Self {
        Self { argv, view: View::Target }
    }

    /// A script beside the target, which is at `TMP_MOUNT_PATH`: programs of the image may be gone by then.
    fn on_host(script: &str) -> Self {
        Self { argv: ["sh", "-euc", script].map(str::to_owned).into(), view: View::HostBare }
    }
}

/// Returns the command that carries out `task`, one of `tasks`; `None` if there is nothing to do, and for hooks.
pub(super) fn command(
    task: &Task,
    tasks: &Tasks,
    variables: &Environment,
    choices: Choices,
) -> Result<Option<Command>, PackageDataError> {
    let packages = |action, names: &[String]| {
        (!names.is_empty()).then(|| Command::in_target(package_argv(choices, action, names)))
    };
    Ok(match &task.action {
        Action::Hook => None,
        Action::Copy { from, to, modes } => Some(Command::in_target(copy(from, to, *modes))),
        Action::InstallInitScripts => init_scripts(tasks, variables).map(Command::in_target),
        Action::CleanUp => Some(Command::on_host(CLEAN_UP)),
        Action::SetResolverAside => Some(Command::on_host(SET_RESOLVER_ASIDE)),
        Action::PutResolverBack => Some(Command::on_host(PUT_RESOLVER_BACK)),
        Action::RefreshIndex => Some(Command::in_target(apt::update())),
        Action::Install(names) => packages(PackageAction::Install, names),
        Action::InstallRequested => {
            packages(PackageAction::Install, &requested(&tasks.requesting, task.phase, variables)?)
        }
        Action::RemoveUnwanted(phases) => {
            packages(PackageAction::Remove, &unwanted(&tasks.requesting, phases, variables)?)
        }
    })
}

#[derive(Clone, Copy)]
enum PackageAction {
    Install,
    Remove,
}

/// An image of elements has a package manager that plywood need not know, under the name that all elements use.
fn package_argv(choices: Choices, action: PackageAction, names: &[String]) -> Vec<String> {
    let command: &[&str] = match (choices, action) {
        (Choices::Plywood, PackageAction::Install) => return apt::install(names),
        (Choices::Plywood, PackageAction::Remove) => return apt::remove(names),
        (Choices::Image, PackageAction::Install) => &["install-packages"],
        (Choices::Image, PackageAction::Remove) => &["install-packages", "-e"],
    };
    command.iter().map(|word| (*word).to_owned()).chain(names.iter().cloned()).collect()
}

/// Copies a directory of the hooks directory onto one of the target, through symlinks such as `/lib -> usr/lib`, which
/// rsync and cp would replace or refuse. Owners are root; directories that exist keep theirs.
fn copy(from: &str, to: &str, modes: CopyModes) -> Vec<String> {
    const SCRIPT: &str = r#"tar -C "$1" --owner=0 --group=0 --mode="$3" -cf - . |
        tar -C "$2" -xpf - --keep-directory-symlink --no-overwrite-dir"#;
    let mode = match modes {
        CopyModes::Keep => "u+rwX,go+rX",
        CopyModes::Executable => "0755",
    };
    let from = format!("{HOOKS_IN_TARGET}/{from}");
    ["bash", "-euo", "pipefail", "-c", SCRIPT, "copy", &from, to, mode].map(str::to_owned).into()
}

/// Copies the init scripts for this image's init system. Source: diskimage-builder, element dib-init-system.
fn init_scripts(tasks: &Tasks, variables: &Environment) -> Option<Vec<String>> {
    let init = variables.get("DIB_INIT_SYSTEM").filter(|init| !init.is_empty())?;
    let from = format!("init-scripts/{init}");
    let below = format!("{from}/");
    let (to, modes) = match init.as_str() {
        "systemd" => ("/usr/lib/systemd/system", CopyModes::Keep),
        "upstart" => ("/etc/init", CopyModes::Keep),
        _ => ("/etc/init.d", CopyModes::Executable),
    };
    tasks.hooks.keys().any(|path| path.starts_with(&below)).then(|| copy(&from, to, modes))
}

/// What diskimage-builder does after the hooks of cleanup.d.
///
/// Source: diskimage-builder, `lib/img-functions`, `finalise_base`.
const CLEAN_UP: &str = r#"cd "$TMP_MOUNT_PATH"
[ ! -d tmp ] || find tmp -xdev -mindepth 1 -delete
[ ! -d root ] || find root -xdev -maxdepth 1 -type f -name '*.log' -delete
[ ! -d var/log ] || find var/log -xdev -type f -size +0 -exec truncate -s 0 {} +"#;

/// A tool that makes a root file system leaves a copy of the machine's resolver configuration in it, which is nobody else's
/// business. Source: diskimage-builder, `lib/common-functions`, `create_base`.
const SET_RESOLVER_ASIDE: &str = r#"cd "$TMP_MOUNT_PATH"
[ -e etc/resolv.conf ] || [ -L etc/resolv.conf ] || { : >etc/resolv.conf; chmod 0777 etc/resolv.conf; exit; }
[ -L etc/resolv.conf ] || ! cmp -s etc/resolv.conf /etc/resolv.conf || : >etc/resolv.conf
mv etc/resolv.conf etc/resolv.conf.ORIG
: >etc/resolv.conf
chmod 0777 etc/resolv.conf"#;

/// Source: diskimage-builder, `lib/img-functions`, `finalise_base`.
const PUT_RESOLVER_BACK: &str = r#"cd "$TMP_MOUNT_PATH/etc"
case $(lsattr -d resolv.conf 2>/dev/null) in ????i*) kept=yes ;; *) kept= ;; esac
if [ -L resolv.conf ] || [ -n "$kept" ]; then
    rm -f resolv.conf.ORIG
else
    rm -f resolv.conf
    [ ! -e resolv.conf.ORIG ] && [ ! -L resolv.conf.ORIG ] || mv resolv.conf.ORIG resolv.conf
fi"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{Phase, fixture::element};

    fn argv(action: Action, tasks: &Tasks, init: &str, choices: Choices) -> Option<String> {
        let task = Task { phase: Phase::Install, name: "x".to_owned(), action };
        let variables = [("DIB_INIT_SYSTEM".to_owned(), init.to_owned())].into();
        command(&task, tasks, &variables, choices).unwrap().map(|command| command.argv.join(" "))
    }

    #[test]
    fn packages_are_installed_by_the_images_own_command_if_its_elements_bring_one() {
        let names = || Action::Install(vec!["vim".to_owned(), "git".to_owned()]);
        for (action, choices, expected) in [
            (names(), Choices::Plywood, Some("apt-get --assume-yes --quiet install vim git")),
            (names(), Choices::Image, Some("install-packages vim git")),
            (Action::Install(Vec::new()), Choices::Image, None),
            (Action::InstallRequested, Choices::Image, None),
        ] {
            assert_eq!(argv(action, &Tasks::default(), "systemd", choices).as_deref(), expected);
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
            let found = argv(Action::InstallInitScripts, &tasks, init, Choices::Plywood);
            let found = found.as_deref().map(|words| words.split_once("copy ").unwrap().1);
            assert_eq!(found, expected, "{init}");
        }
    }
}
