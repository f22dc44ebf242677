//! Limits for hooks.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::ByteSize;

/// Limits for each hook, and for each task of plywood's own: the table `[limits]`. Without it there are none. Limits are part of
/// no cache key: they decide whether a build succeeds, never its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LimitSettings {
    /// Seconds after which a hook that still runs is ended.
    pub hook_timeout: Option<NonZeroU64>,
    /// Processes and threads that a hook may have at a time. Needs the kernel's controller `pids`.
    pub hook_processes: Option<NonZeroU64>,
    /// Memory that a hook may take, such as `"2G"`. Needs the kernel's controller `memory`.
    #[schemars(with = "Option<String>")]
    pub hook_memory: Option<ByteSize>,
}
