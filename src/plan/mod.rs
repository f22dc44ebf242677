//! Ordered steps, their keys, and the reasons of a cache miss.
//!
//! ```text
//! compose   an image's resolved parts -> steps           Request -> Plan
//! tasks     an element -> its tasks, in order
//! view      hooks -> the files and variables that they can see
//! key       the inputs of a step -> its two keys         KeyFields -> InputKey, ContentKey
//! seal      a secret -> the value in a key
//! evidence  the files of the build host that hooks read, besides the inputs in a key
//! miss      a step and earlier records -> the reasons to build it
//! ```
//!
//! The inputs in the key of a step, and those left out on purpose:
//!
//! | in the key | left out |
//! |---|---|
//! | the key (input key) or the ChainID (content key) of the layers below | time, host name, paths, user, umask |
//! | every file its hooks can see: path, mode, digest | README, licenses and tests of elements |
//! | every variable its hooks can see | variables that no text in the step mentions, or that control only how it runs |
//! | its tasks, in order, and the package lists that they use | job count, compression, outputs, disk |
//! | architecture, source date epoch, the packages revision | mirrors, proxies, certificates |
//! | the version of the encoding | the version of plywood |

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
mod input;
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
mod step_name;
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
pub use input::{InputFile, InputKind};
pub use key::{BEHAVIOUR_VERSION, ContentKey, Field, Found, InputKey, KeyFields};
pub use miss::{Miss, explain_miss};
pub use record::Record;
pub use request::{Foundation, MachineContent, MachineFile, Request};
pub use seal::{Seal, is_secret, secret_texts, without_credentials};
pub use source::{GitCheckout, ResolvedSource, SourceContent};
pub use step::{
    Action, CopyModes, DISK_PARAMETERS, ELEMENTS_ON_HOST, INSTALL_TYPE_FRAGMENT, Plan, Step, Task, Tasks,
    WORK_DIR_ON_HOST, Work,
};
pub use step_name::{StepName, StepNameError};
pub use unread::{Unread, unread};
pub use variables::{
    element_variables, elements_yaml, is_about_the_call, mentions_variable, names_log, names_written_file,
};
