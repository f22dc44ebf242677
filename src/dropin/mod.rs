//! diskimage-builder's commands: converts their arguments and variables to values.
//!
//! | module | converts |
//! |---|---|
//! | [`Command`] | a program's name to a command |
//! | [`Invocation`] | a command line to arguments, like getopt |
//! | [`BuildRequest`] | arguments and the caller's environment to a build |
//! | [`ImageCommand`] | an image definition in YAML to command lines |
//! | [`Narrator`] | the events of a build to the lines of diskimage-builder's log |
//! | [`UsageReport`] | sizes of files to a report |
//! | [`element_info`] | elements to the output of `element-info` |
//!
//! Nothing here reads a file or the environment: both are passed in.
//!
//! Source: diskimage-builder 3.43, `lib/disk-image-create`, `lib/common-functions`,
//! `lib/img-functions`,
//! `diskimage_builder.py`.

mod arguments;
mod breaks;
mod checksum;
mod command;
mod definition;
pub mod element_info;
mod getopt;
mod help;
mod log;
mod narrator;
mod option;
mod output;
mod profile;
mod property;
mod request;
mod usage;
mod variables;

pub use arguments::{Arguments, Invocation};
pub use breaks::{BreakPlace, BreakPoints};
pub use command::Command;
pub use definition::{DefinitionError, ImageCommand, parse_definition};
pub use getopt::UsageError;
pub use help::{definition_help, help};
pub use log::{LogSettings, is_shown, stamped};
pub use narrator::Narrator;
pub use output::{OldImage, OutputName, OutputType, OutputTypeError};
pub use request::{BuildRequest, RequestError};
pub use usage::UsageReport;
pub use variables::Environment;
