//! Ordered steps, their keys, and the reasons of a cache miss.
//!
//! ```text
//! compose   an image's resolved parts -> steps           Request -> Plan
//! tasks     an element -> what is done for it, in order
//! view      hooks -> the files and variables that they can see
//! key       what a step depends on -> its two keys       KeyFields -> InputKey, ContentKey
//! seal      a secret -> what of it may be in a key
//! evidence  what hooks read of the build host, beside what a key covers
//! miss      a step and earlier records -> why it has to be built
//! ```
//!
//! What is in the key of a step, and what is left out on purpose:
//!
//! | in | left out |
//! |---|---|
//! | the key (input key) or the ChainID (content key) of what is below | time, host name, paths, user, umask |
//! | every file its hooks can see: path, mode, digest | README, licences and tests of elements |
//! | every variable its hooks can see | variables that nothing it runs mentions, or that say how it is run |
//! | its tasks, in order, and the package lists they go by | job count, compression, outputs, disk |
//! | architecture, source date epoch, the packages revision | mirrors, proxies, certificates |
//! | the version of this form | the version of plywood |

mod compose;
mod dib_manifests;
mod distribution;
mod error;
mod evidence;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod golden_tests;
mod hooks;
mod key;
#[cfg(test)]
mod law_tests;
mod miss;
mod named;
#[cfg(test)]
mod order_tests;
mod record;
mod request;
mod seal;
mod source;
mod step;
mod tasks;
mod unread;
mod variables;
mod view;

pub use compose::plan_image;
pub use distribution::belongs_to_distribution;
pub use error::PlanError;
pub use evidence::{
    Aspect, Evidence, HostChange, HostDifference, HostRead, NAMES, NOT_OF_HOST, Stamp, aspect_below,
    directories_with_links, literal_paths,
};
pub use key::{BEHAVIOUR_VERSION, ContentKey, Field, InputKey, KeyFields};
pub use miss::{Miss, explain_miss};
pub use record::Record;
pub use request::{Foundation, MachineContent, MachineFile, Request};
pub use seal::{Seal, is_secret, secret_texts, without_credentials};
pub use source::{GitCheckout, ResolvedSource, SourceContent};
pub use step::{
    Action, CopyModes, DISK_PARAMETERS, ELEMENTS_ON_HOST, INSTALL_TYPE_FRAGMENT, InputFile, Plan, Step, Task,
    Tasks, WORK_DIR_ON_HOST, Work,
};
pub use unread::{Unread, unread};
pub use variables::{
    element_variables, elements_yaml, is_about_the_call, mentions_variable, names_log, names_written_file,
};
