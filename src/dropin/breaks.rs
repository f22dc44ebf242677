//! Points at which a build stops for somebody to look at it.
//!
//! ```text
//! break=before-install,after-error  break_cmd='cp …'  break_outside_target=1
//! ```
//!
//! Source: diskimage-builder, `lib/common-functions`, `check_break`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::variables::{Environment, flag, text};
use crate::element::Phase;

/// A place in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakPoint {
    /// Before the hooks of a phase.
    Before(Phase),
    /// After them.
    After(Phase),
    /// After a hook that failed, with the tree as it left it.
    AfterError,
}

impl FromStr for BreakPoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let phase = |name: &str| Phase::ALL.into_iter().find(|phase| short_name(*phase) == name).ok_or(());
        match text.split_once('-') {
            Some(("after", "error")) => Ok(BreakPoint::AfterError),
            Some(("before", name)) => phase(name).map(BreakPoint::Before),
            Some(("after", name)) => phase(name).map(BreakPoint::After),
            _ => Err(()),
        }
    }
}

impl fmt::Display for BreakPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BreakPoint::Before(phase) => write!(f, "before-{}", short_name(*phase)),
            BreakPoint::After(phase) => write!(f, "after-{}", short_name(*phase)),
            BreakPoint::AfterError => f.write_str("after-error"),
        }
    }
}

/// Returns a phase's name without `.d`.
fn short_name(phase: Phase) -> &'static str {
    phase.dir().trim_end_matches(".d")
}

/// Where what runs at a point has its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakPlace {
    /// Where the phase's hooks have it.
    AsHooks,
    /// On the machine, the target being at `TMP_MOUNT_PATH`, for every phase.
    Outside,
}

/// Where a build stops, and what it runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakPoints {
    /// The points.
    pub points: BTreeSet<BreakPoint>,
    /// A shell's command line.
    pub command: String,
    /// Where it runs.
    pub place: BreakPlace,
}

impl BreakPoints {
    /// Reads the variables `break`, `break_cmd` and `break_outside_target`. Names of no point are passed over, as ever.
    pub(super) fn of(environment: &Environment) -> Self {
        let list = text(environment, "break").unwrap_or_default();
        Self {
            points: list.split(',').filter_map(|point| point.parse().ok()).collect(),
            command: text(environment, "break_cmd").unwrap_or("bash").to_owned(),
            place: match flag(environment, "break_outside_target") {
                true => BreakPlace::Outside,
                false => BreakPlace::AsHooks,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::environment;

    #[test]
    fn every_point_has_one_name() {
        for phase in Phase::ALL {
            for point in [BreakPoint::Before(phase), BreakPoint::After(phase), BreakPoint::AfterError] {
                assert_eq!(point.to_string().parse(), Ok(point));
            }
        }
        assert_eq!("before-pre-install".parse(), Ok(BreakPoint::Before(Phase::PreInstall)));
        for text in ["", "before", "before-error", "after-install.d", "install"] {
            assert!(text.parse::<BreakPoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn three_variables_make_break_points() {
        let none = BreakPoints::of(&environment(&[]));
        assert_eq!((none.points.len(), none.command.as_str(), none.place), (0, "bash", BreakPlace::AsHooks));
        let given = BreakPoints::of(&environment(&[
            ("break", "after-error,before-lunch,after-install"),
            ("break_cmd", "cp a b"),
            ("break_outside_target", "1"),
        ]));
        assert_eq!(given.points, [BreakPoint::After(Phase::Install), BreakPoint::AfterError].into());
        assert_eq!((given.command.as_str(), given.place), ("cp a b", BreakPlace::Outside));
    }
}
