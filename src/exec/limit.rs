//! The limit of open files.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most files that this process opens at once. While plywood copies a tree, each directory on
/// the way to the current one is open, and its copy: at most 1000 levels of both
/// (`tree::MAX_LEVELS`).
const OPEN_FILES: u64 = 2 * 1000 + 512;

/// The caller's limit, if this process has another one.
static CALLERS: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit of this process, as far as the caller may. Programs that it starts keep the
/// limit of the caller: those that call select(2) fail with higher numbers.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if limit.current.is_some_and(|soft| soft < wanted) && setrlimit(Resource::Nofile, raised).is_ok() {
        // Set before, this process has the raised limit already.
        let _ = CALLERS.set(limit);
    }
}

/// Gives this process the limit of the caller again. Allocates nothing: it runs between fork and
/// exec.
pub(super) fn restore_open_files() -> io::Result<()> {
    match CALLERS.get() {
        Some(limit) => Ok(setrlimit(Resource::Nofile, *limit)?),
        None => Ok(()),
    }
}
