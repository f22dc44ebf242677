//! Reads the caller's settings from the process. The engine never reads them itself.

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::Global;
use crate::element::Environment;
use crate::engine::{Process, Session};
use crate::load::data_dir;

/// Returns the variables of the process that are text.
pub(super) fn environment() -> Environment {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

impl Global {
    /// Returns the session of a command: its directories, variables and mounts.
    pub(super) fn session<'a>(&self, process: &'a Process) -> Session<'a> {
        Session {
            process,
            project: self.project().to_owned(),
            store: self.store.clone().or_else(default_store),
            data_dir: data_dir(),
            environment: environment(),
        }
    }
}

/// Returns the default directory of the store.
fn default_store() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/plywood"));
    }
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("plywood"))
}
