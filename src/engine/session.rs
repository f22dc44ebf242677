//! The values with which a front end starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Access;
use rustix::io::Errno;

use super::failure::{Failure, Message};
use crate::element::Environment;
use crate::port::{Event, Events, SandboxError};
use crate::sandbox::PrivateMounts;
use crate::store::Store;

/// The process's own mount namespace, or the reason why it has none.
pub type Mounts = Result<PrivateMounts, SandboxError>;

/// Values that the process gets when it starts.
pub struct Process {
    /// Without mounts of its own, the process cannot build.
    pub mounts: Mounts,
    pub interrupted: Arc<AtomicBool>,
}

/// The directories and variables of a front end. The engine gets these values here, and never reads
/// them from the process.
pub(crate) struct Session<'a> {
    pub(crate) process: &'a Process,
    /// The directory of `plywood.toml`.
    pub(crate) project: PathBuf,
    /// The directory of the store; `None` if none is named and there is no default.
    pub(crate) store: Option<PathBuf>,
    /// The directory of plywood's own elements and bases.
    pub(crate) data_dir: PathBuf,
    /// The variables of the process that are valid UTF-8.
    pub(crate) environment: Environment,
}

impl Session<'_> {
    fn store(&self) -> Result<&PathBuf, Failure> {
        self.store.as_ref().ok_or_else(|| {
            Message::with_hint(
                "cannot choose a directory for the store: HOME is not set",
                "add `--store DIR`",
            )
        })
    }
}

/// Opens the store.
pub(crate) fn open_store(session: &Session<'_>) -> Result<Store, Failure> {
    Ok(Store::open_until(session.store()?, session.process.interrupted.clone())?)
}

/// Opens the store for reading. If this user may not write to it, it is opened read-only, with a
/// warning.
pub(crate) fn open_store_to_read(session: &Session<'_>, events: &dyn Events) -> Result<Store, Failure> {
    let path = session.store()?;
    // Checked with access(2): a trial would leave files in a store that is only read.
    match rustix::fs::access(path, Access::WRITE_OK) {
        Err(Errno::ACCESS | Errno::ROFS) => {
            let message = format!(
                "store `{}` is open for reading only: steps that used secrets are not found in it",
                path.display()
            );
            events.emit(Event::Warning { message: &message });
        }
        _ => return Ok(Store::open(path)?),
    }
    Ok(Store::open_to_read(path)?)
}

/// Returns the home directory of the caller with these variables.
pub(crate) fn home_of(environment: &Environment) -> Option<PathBuf> {
    environment.get("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}
