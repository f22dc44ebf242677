//! The firmware that boots a disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The BIOS of a PC.
    Bios,
    /// UEFI.
    Uefi,
}

impl Firmware {
    /// Returns its name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "the BIOS",
            Firmware::Uefi => "UEFI",
        }
    }
}
