//! Slots: places for hooks in element order, and the lines of [`SLOT_FILE`] that give them.
//!
//! | slot | step |
//! |---|---|
//! | `own` | the element's own step |
//! | `prepare` | before anything is installed, together with the elements that make the operating system |
//! | `late` | after all elements, in the order of phases and numbers |
//! | `final` | the final stage, before its own phases |

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::{Phase, nearest};

/// The file of an element with the slots of its hooks. Hooks do not see it, and no key contains it:
/// the keys of steps cover the hooks that they run. diskimage-builder ignores it.
pub const SLOT_FILE: &str = "plywood-slots";

/// A place for hooks in element order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The element's own step.
    Own,
    /// The step before anything is installed.
    Prepare,
    /// The step after all elements.
    Late,
    /// The final stage.
    Final,
}

impl Slot {
    const ALL: [Self; 4] = [Self::Own, Self::Prepare, Self::Late, Self::Final];

    /// Returns its name in [`SLOT_FILE`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Prepare => "prepare",
            Self::Late => "late",
            Self::Final => "final",
        }
    }

    /// Returns the phases whose hooks can be in the slot. The work of other hooks would be lost or
    /// come too late there.
    pub(super) const fn phases(self) -> &'static [Phase] {
        use Phase::{ExtraData, Install, PostInstall, PostRoot, PreInstall};
        match self {
            Self::Own => &[ExtraData, PreInstall, Install, PostInstall, PostRoot],
            Self::Prepare => &[ExtraData, PreInstall],
            Self::Late => &[Install, PostInstall, PostRoot],
            Self::Final => &[ExtraData],
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A line of [`SLOT_FILE`]: hooks, by phase and by the start of their names, and their slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRule {
    /// The line, counted from 1.
    pub line: usize,
    pub phase: Phase,
    /// The start of the names of the hooks.
    pub prefix: String,
    pub slot: Slot,
}

/// A line of [`SLOT_FILE`] that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotRuleError {
    #[error("`{0}` is not a slot rule: expected hooks and a slot, such as `post-install.d/95- late`")]
    Form(String),
    /// The phase is unknown, or its hooks make no layer.
    #[error("`{hooks}` has no phase with slots: expected {}, or one of them, `/` and the start of a hook's name", listed(Slot::Own.phases()))]
    Phase { hooks: String },
    #[error("slot `{name}` is unknown: expected {}{}", listed(&Slot::ALL), meant(name))]
    Slot { name: String },
    #[error("hooks of `{phase}` cannot be in slot `{slot}`: expected {}", listed(slot.phases()))]
    Unfit { phase: Phase, slot: Slot },
}

fn listed(names: &[impl fmt::Display]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn meant(name: &str) -> String {
    let nearest = nearest(name, Slot::ALL.map(Slot::name));
    nearest.map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default()
}

impl SlotRule {
    /// Parses a line of [`SLOT_FILE`]; `None` if it is empty or a comment.
    ///
    /// # Errors
    /// [`SlotRuleError`] if it is not a rule.
    pub fn parse(line: usize, text: &str) -> Result<Option<Self>, SlotRuleError> {
        let text = text.split('#').next().unwrap_or_default().trim();
        let words: Vec<_> = text.split_whitespace().collect();
        let [hooks, slot] = words[..] else {
            return if text.is_empty() { Ok(None) } else { Err(SlotRuleError::Form(text.to_owned())) };
        };
        let (phase, prefix) = hooks.split_once('/').unwrap_or((hooks, ""));
        let phase: Option<Phase> = phase.parse().ok();
        let phase = phase.filter(|phase| Slot::Own.phases().contains(phase));
        let phase = phase.ok_or_else(|| SlotRuleError::Phase { hooks: hooks.to_owned() })?;
        let slot: Slot = slot.parse()?;
        match slot.phases().contains(&phase) {
            true => Ok(Some(Self { line, phase, prefix: prefix.to_owned(), slot })),
            false => Err(SlotRuleError::Unfit { phase, slot }),
        }
    }

    /// Returns true if the rule is for the hook `name` of `phase`.
    pub(super) fn covers(&self, phase: Phase, name: &str) -> bool {
        self.phase == phase && name.starts_with(&self.prefix)
    }
}

impl FromStr for Slot {
    type Err = SlotRuleError;

    fn from_str(name: &str) -> Result<Self, SlotRuleError> {
        let found = Self::ALL.into_iter().find(|slot| slot.name() == name);
        found.ok_or_else(|| SlotRuleError::Slot { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_line_is_an_error_that_names_what_was_expected() {
        for (line, expected) in [
            (
                "late",
                "`late` is not a slot rule: expected hooks and a slot, such as `post-install.d/95- late`",
            ),
            (
                "install.d/50-x latr",
                "slot `latr` is unknown: expected `own`, `prepare`, `late`, `final` (did you mean `late`?)",
            ),
            (
                "finalise.d late",
                "`finalise.d` has no phase with slots: expected `extra-data.d`, `pre-install.d`, `install.d`, \
                 `post-install.d`, `post-root.d`, or one of them, `/` and the start of a hook's name",
            ),
            (
                "install.d prepare",
                "hooks of `install.d` cannot be in slot `prepare`: expected `extra-data.d`, `pre-install.d`",
            ),
        ] {
            assert_eq!(SlotRule::parse(1, line).unwrap_err().to_string(), expected, "{line}");
        }
    }
}
