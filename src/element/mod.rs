//! Elements as values: names, files, phases, hooks, package requests, dependencies.
//!
//! An element is a directory in diskimage-builder's layout. The module `load` reads it. This module
//! computes values from texts and values, so that each rule can be tested as a table:
//!
//! ```text
//! Element ──┬─ hooks(phase)         the hooks, in dib-run-parts' order
//!           ├─ mentions             the variables that its texts may read
//!           ├─ package_installs     the packages that it requests
//!           └─ package_map …        the names of packages on a distribution
//! Catalog ──── resolve(requested)   the elements of an image, in order
//!         ├─── check_elements       errors and probable mistakes
//!         └─── graph_dot            the graph of dependencies
//! ```
//!
//! | topic | modules |
//! |---|---|
//! | one element | `model`, `name`, `document` (its YAML and JSON files), `stray` (misspelled names of files) |
//! | its hooks | `hook`, `phase`, `install_type` |
//! | its variables | `assignment`, `environment`, `option`, `pure_shell`, `relevance`, `variables` |
//! | its packages | `package_file`, `package_rule`, `package_list`, `package_request`, `package_data` (errors), `name_map` |
//! | its sources | `source_repository` |
//! | all elements | `catalog`, `check`, `describe`, `nearest`, `provider` |
//! | the elements of an image | `resolve`, `order`, `class`, `slot`, `sandwich`, `native`, `family` |
//! | command lines | `shell_word` |
//! | tests | `fixture` |
//!
//! Source: diskimage-builder, `doc/source/developer/developing_elements.rst`, `lib/dib-run-parts`,
//! `element_dependencies.py`.

mod assignment;
mod catalog;
mod check;
mod class;
mod describe;
mod document;
mod environment;
mod family;
#[cfg(test)]
pub(crate) mod fixture;
mod hook;
mod install_type;
mod model;
mod name;
mod name_map;
mod native;
mod nearest;
mod option;
mod order;
mod package_data;
mod package_file;
mod package_list;
mod package_request;
mod package_rule;
mod phase;
mod provider;
mod pure_shell;
mod relevance;
mod resolve;
mod sandwich;
mod shell_word;
mod slot;
mod source_repository;
mod stray;
mod variables;

pub use assignment::Assignments;
pub use catalog::{Catalog, Unusable};
pub use check::{Finding, Severity, check_elements};
pub use class::{SlotConflict, needs_phase_order};
pub use describe::{Description, graph_dot};
pub use document::{DocumentError, MAX_YAML_DEPTH};
pub use environment::{Environment, environment_argv, last_fragment, split_environment, without_trace};
pub use family::Family;
pub use hook::{
    DuplicateHook, Hook, SkippedHook, duplicate_hooks, environment_order, is_hook_character, run_parts_order,
};
pub use model::{Element, ElementFile, FileKind, Mode, Widened, belongs_to_identity};
pub use name::{ElementName, ElementNameError};
pub use name_map::{Distribution, DuplicateServiceError, Mapping, PackageMap, ServiceMap, ServiceNames};
pub use native::{
    BOOT_LOADER_HOOK, NativeProvider, is_boot_loader, is_data_for_plywood, is_done_natively, is_never_called,
    is_source_list, is_source_variable, plain_list_phase, preset_variables, provider_variables,
};
pub use nearest::nearest;
pub use option::ElementOption;
pub use order::{CycleError, HookOrder};
pub use package_data::PackageDataError;
pub use package_list::{PackageEntry, PackageList};
pub use package_request::{PackageRequest, PackageRequests, PhaseRequests, UnsetVariableError, install_type};
pub use package_rule::{Condition, PACKAGE_PHASES, PackageAction};
pub use phase::{Phase, PhaseClass, PhaseError, Place};
pub use provider::{OPERATING_SYSTEM, PROVIDER_DATA, Provider};
pub use pure_shell::is_pure_shell;
pub use relevance::{Fragment, Relevance, relevant_fragments};
pub use resolve::{BaseNames, Resolution, ResolveError, resolve};
pub use sandwich::{Sandwich, sandwiches};
pub use shell_word::{shell_line, shell_word};
pub use slot::{SLOT_FILE, Slot, SlotRule, SlotRuleError};
pub use source_repository::{
    GitReference, Selection, SourceFault, SourceLine, SourceLineError, SourceRequest, read_source_line,
};
pub use stray::{Stray, is_list};
pub use variables::{Mentions, is_ambient, library_variables};
