//! What can be done with a project, for any front end: its verbs, behind the ports.
//!
//! Front ends parse words, show events and render answers; the engine decides. It takes plain values, prints nothing and
//! never ends the process.

mod base;
mod breaks;
mod container;
mod delivery;
mod disk;
mod edges;
mod failure;
mod fetch;
mod host;
mod origin;
mod outputs;
mod preflight;
mod project;
mod redaction;
mod registry;
mod session;
mod sharing;
mod sources;

pub use failure::{Failure, Message};
pub use session::Process;

pub(crate) use base::fetch_missing;
pub(crate) use breaks::BreakIns;
pub(crate) use container::{Assembly, not_built};
pub(crate) use delivery::Delivery;
pub(crate) use disk::{Disk, DiskRules};
pub(crate) use edges::{ETC_APT, Edges};
pub(crate) use fetch::{Fetch, Fetched, blob_of, manifest, parse, unusable};
pub(crate) use host::{Host, mirror, require_whole, tool};
pub(crate) use origin::Origins;
pub(crate) use outputs::{Extras, InDirectory, Naming, Outputs, cannot_use};
pub(crate) use preflight::{base_layers, check, is_container, too_many_layers};
pub(crate) use project::{Context, absolute, machine_architecture, unknown_step, upstream_element_path};
pub(crate) use redaction::{redact, redacted};
pub(crate) use registry::{client, look_up_client};
pub(crate) use session::{Session, open_store, open_store_to_read};
pub(crate) use sharing::{PublishTo, Sources, Target, now, signing_key};
