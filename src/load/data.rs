//! Where plywood's own elements and bases are.

use std::env;
use std::path::PathBuf;

/// Names the directory in place of the one that was installed.
const VARIABLE: &str = "PLYWOOD_DATA_DIR";

/// Returns the directory that holds plywood's own `elements/` and `layers/`: the value of
/// `PLYWOOD_DATA_DIR`, else `../share/plywood` from the program, else the source tree that the
/// program was built from.
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
