//! Interfaces between the build and the outside world, as small traits in plywood's own terms.
//!
//! `build` calls these traits, the edges implement them, and `engine` connects the two. Each method
//! documents whether it may be repeated, whether it is atomic, and what success guarantees.

mod blobs;
mod breaks;
mod disk;
mod event;
mod hooks;
mod host;
mod io;
mod package;
mod remote;
mod sandbox;
mod sources;
mod store;

pub use blobs::{BlobSource, LayerBlobs};
pub use breaks::{Breaks, Moment};
pub use disk::{BootImages, DiskDevice, DiskError, DiskWriter, OpenDisk};
pub use event::{Direction, Event, Events, How, Pace};
pub use hooks::{HookFiles, HookFilesError, HostDirs, LeftState, Logs};
pub use host::{HostFiles, HostOpen, HostOpens, Observation};
pub use io::IoError;
pub use package::{DnfStage, EarlierDownloads, IndexState, PackageError, PackageSession, Packages, Refresh};
pub use remote::{Blob, Open, RemoteCache, RemoteError, Tagged, Take};
pub use sandbox::{
    Access, Bind, CacheMount, EntryKind, Exit, Job, Limit, Limits, Network, Root, RootSpec, Sandbox,
    SandboxError, View,
};
pub use sources::{AddedSourceError, AddedSources};
pub use store::{BaseImage, Commit, FailedStep, Layer, LayerStore, ObservedTree, StoreError, Workspace};
