//! Finds plywood's own elements and bases.

use std::env;
use std::path::PathBuf;

/// This variable names a directory to use instead of the installed one.
const VARIABLE: &str = "PLYWOOD_DATA_DIR";

/// Returns the directory with plywood's own `elements/` and `layers/`: the value of
/// `PLYWOOD_DATA_DIR`, else `../share/plywood` beside the directory of the program, else the source
/// tree from which the program was built.
pub fn data_dir() -> PathBuf {
    let installed = || {
        let program = env::current_exe().ok()?.canonicalize().ok()?;
        let share = program.parent()?.parent()?.join("share/plywood");
        share.join("layers").is_dir().then_some(share)
    };
    env::var_os(VARIABLE)
        .map(PathBuf::from)
        .or_else(installed)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}
