//! Tasks for files that hooks put into the hooks directory, and that diskimage-builder's providers
//! process: `bin/`, `static/`, `init-scripts/`, plain lists of packages, and lists of sources.

use super::command::init_directory;
use crate::element::{Environment, Phase, plain_list_phase};
use crate::plan::{Action, CopyModes, Task};

/// The number of diskimage-builder's hook that fetches things.
pub(super) const SOURCES: &str = "98-source-repositories";

/// Name of the task that fetches package indices.
const REFRESH: &str = "refresh-package-index";

/// Returns the tasks of a phase for `data`, the files that hooks have added, besides the `planned`
/// tasks.
pub(super) fn tasks(phase: Phase, planned: &[Task], data: &[String], environment: &Environment) -> Vec<Task> {
    let task = |name: &str, action: Action| Task { phase, name: name.to_owned(), action };
    let copied = |dir: &str| planned.iter().any(|task| copies(&task.action, dir));
    let has = |dir: &str| data.iter().any(|path| is_below(path, dir)) && !copied(dir);
    let copy = |name: &str, from: &str, to: &str, modes| {
        let action = Action::Copy { from: from.to_owned(), to: to.to_owned(), modes };
        has(from).then(|| task(name, action))
    };
    let mut tasks: Vec<_> = match phase {
        Phase::PreInstall => {
            copy("01-install-bin", "bin", "/usr/local/bin", CopyModes::Executable).into_iter().collect()
        }
        Phase::Install => {
            let init = environment.get("DIB_INIT_SYSTEM").map_or("", String::as_str);
            let (to, modes) = init_directory(init);
            let scripts = copy("20-install-init-scripts", &format!("init-scripts/{init}"), to, modes);
            let files = copy("10-install-static", "static", "/", CopyModes::Keep);
            files.into_iter().chain(scripts.filter(|_| !init.is_empty())).collect()
        }
        _ => Vec::new(),
    };
    let name = match phase {
        Phase::PreInstall => "10-package-installs",
        Phase::Install => "01-package-installs",
        _ => "00-package-installs",
    };
    let lists = data.iter().filter(|path| plain_list_phase(path) == Some(phase));
    for list in lists {
        tasks.push(task(REFRESH, Action::RefreshIndex));
        tasks.push(task(name, Action::InstallAdded(list.clone())));
    }
    tasks
}

/// Returns true if `phase` acts on the file `path`, which an earlier hook put into the hooks
/// directory.
pub(super) fn is_for(phase: Phase, path: &str) -> bool {
    match phase {
        Phase::PreInstall => is_below(path, "bin") || plain_list_phase(path) == Some(phase),
        Phase::Install => {
            is_below(path, "static")
                || is_below(path, "init-scripts")
                || plain_list_phase(path) == Some(phase)
        }
        Phase::PostInstall => plain_list_phase(path) == Some(phase),
        _ => false,
    }
}

fn copies(action: &Action, dir: &str) -> bool {
    match action {
        Action::Copy { from, .. } => from == dir,
        Action::InstallInitScripts => is_below(dir, "init-scripts"),
        _ => false,
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hooks_add_get_tasks_in_their_phase_unless_these_are_planned() {
        let data = [
            "bin/tool",
            "init-scripts/systemd/x.service",
            "install.d/package-installs-web",
            "pkg-map",
            "source-repository-x",
            "static/etc/x",
        ]
        .map(str::to_owned);
        let environment = [("DIB_INIT_SYSTEM".to_owned(), "systemd".to_owned())].into();
        let names = |phase, planned: &[Task]| {
            let tasks = tasks(phase, planned, &data, &environment);
            tasks.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Phase::PreInstall, &[]),
            ["pre-install.d/01-install-bin copy bin to /usr/local/bin as programs"]
        );
        let install = names(Phase::Install, &[]);
        assert_eq!(
            install,
            [
                "install.d/10-install-static copy static to /",
                "install.d/20-install-init-scripts copy init-scripts/systemd to /usr/lib/systemd/system",
                "install.d/refresh-package-index refresh package indices",
                "install.d/01-package-installs install packages of install.d/package-installs-web",
            ]
        );
        let planned = tasks(Phase::Install, &[], &data, &environment);
        assert_eq!(names(Phase::Install, &planned), install[2..]);
        assert!(names(Phase::PostInstall, &[]).is_empty());
        let acted: Vec<_> = data.iter().filter(|path| is_for(Phase::Install, path)).collect();
        assert_eq!(
            acted,
            ["init-scripts/systemd/x.service", "install.d/package-installs-web", "static/etc/x"]
        );
    }
}
