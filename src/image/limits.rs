//! Limits for hooks.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::ByteSize;

/// Limits for each hook, and for each task of plywood itself: the table `[limits]`. Without the
/// table there are no limits. Limits are in no cache key: they decide whether a build succeeds,
/// never its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LimitSettings {
    /// The seconds that a hook may run before it is stopped.
    pub hook_timeout: Option<NonZeroU64>,
    /// The processes and threads that a hook may have at the same time. Needs the kernel's
    /// controller `pids`.
    pub hook_processes: Option<NonZeroU64>,
    /// The memory that a hook may use, such as `"2G"`. Needs the kernel's controller `memory`.
    #[schemars(with = "Option<String>")]
    pub hook_memory: Option<ByteSize>,
}
