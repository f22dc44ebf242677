//! diskimage-builder's commands, from their words and variables to values.
//!
//! | module | what it turns into what |
//! |---|---|
//! | [`Command`] | a program's name into which command is meant |
//! | [`Invocation`] | the words of a command line into arguments, as getopt does |
//! | [`BuildRequest`] | arguments and the caller's environment into what is to be built |
//! | [`ImageCommand`] | an image definition in YAML into command lines |
//! | [`Narrator`] | what happens during a build into the lines of diskimage-builder's log |
//! | [`UsageReport`] | sizes of files into the report of them |
//! | [`element_info`] | elements into what `element-info` prints |
//!
//! Nothing here reads a file or the environment: both are passed in.
//!
//! Source: diskimage-builder 3.43, `lib/disk-image-create`, `lib/common-functions`, `lib/img-functions`,
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
