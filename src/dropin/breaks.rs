//! Where a build stops for somebody to look at it.
//!
//! ```text
//! break=before-install,after-error  break_cmd='cp …'  break_outside_target=1
//! ```
//!
//! Source: diskimage-builder, `lib/common-functions`, `check_break`.

use std::collections::BTreeSet;

use super::variables::{Environment, flag, text};
use crate::element::{Phase, PhaseClass};
use crate::port::Moment;

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
    points: BTreeSet<String>,
    /// A shell's command line.
    pub command: String,
    pub place: BreakPlace,
}

impl BreakPoints {
    /// Reads the variables `break`, `break_cmd` and `break_outside_target`. Names of no point are passed over, as ever.
    pub(super) fn of(environment: &Environment) -> Self {
        let list = text(environment, "break").unwrap_or_default();
        let given: Vec<_> = list.split(',').collect();
        let points = moments().map(point).filter(|point| given.contains(&point.as_str()));
        Self {
            points: points.collect(),
            command: text(environment, "break_cmd").unwrap_or("bash").to_owned(),
            place: match flag(environment, "break_outside_target") {
                true => BreakPlace::Outside,
                false => BreakPlace::AsHooks,
            },
        }
    }

    /// Returns the one point that `--on-error shell` stops at: with a shell, after an error.
    pub fn after_error() -> Self {
        Self {
            points: [point(Moment::Failed(Phase::Install))].into(),
            command: "bash".to_owned(),
            place: BreakPlace::AsHooks,
        }
    }

    /// Returns the point that the build stops at in this moment, if it does.
    pub fn at(&self, moment: Moment) -> Option<&str> {
        self.points.get(&point(moment)).map(String::as_str)
    }

    /// Returns true if there is one.
    pub fn any(&self) -> bool {
        !self.points.is_empty()
    }

    /// Returns true if the build stops before or after a phase: a point would be missed if hooks did not run because their layer
    /// is there.
    pub fn await_phase(&self, phase: Phase) -> bool {
        [Moment::Before(phase), Moment::After(phase)].into_iter().any(|moment| self.at(moment).is_some())
    }

    /// Returns true if it stops where, element by element, there is no one moment: before or after a phase of which each element has
    /// its part.
    pub fn need_phase_order(&self) -> bool {
        let shared = Phase::of_class(PhaseClass::Layer).filter(|phase| *phase != Phase::Root);
        shared.into_iter().any(|phase| self.await_phase(phase))
    }
}

fn moments() -> impl Iterator<Item = Moment> {
    let of_phase = |phase| [Moment::Before(phase), Moment::After(phase), Moment::Failed(phase)];
    Phase::ALL.into_iter().flat_map(of_phase)
}

/// Returns what a moment is called.
fn point(moment: Moment) -> String {
    let short = |phase: Phase| phase.dir().trim_end_matches(".d");
    match moment {
        Moment::Before(phase) => format!("before-{}", short(phase)),
        Moment::After(phase) => format!("after-{}", short(phase)),
        Moment::Failed(_) => "after-error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::environment;

    #[test]
    fn a_build_stops_at_the_points_that_are_named() {
        let breaks =
            BreakPoints::of(&environment(&[("break", "after-error,before-lunch,after-pre-install")]));
        for (moment, point) in [
            (Moment::Failed(Phase::Install), Some("after-error")),
            (Moment::After(Phase::PreInstall), Some("after-pre-install")),
            (Moment::Before(Phase::PreInstall), None),
            (Moment::After(Phase::Install), None),
        ] {
            assert_eq!(breaks.at(moment), point);
        }
        assert!(breaks.await_phase(Phase::PreInstall) && !breaks.await_phase(Phase::Install));
    }

    #[test]
    fn a_moment_of_all_elements_needs_the_order_that_has_it() {
        for (points, expected) in [
            ("after-install", true),
            ("before-extra-data,after-error", true),
            ("after-root", false),
            ("before-finalise,after-cleanup", false),
            ("after-error,nonsense", false),
        ] {
            let breaks = BreakPoints::of(&environment(&[("break", points)]));
            assert_eq!(breaks.need_phase_order(), expected, "{points}");
        }
    }

    #[test]
    fn a_command_runs_where_it_is_wanted() {
        let none = BreakPoints::of(&environment(&[]));
        assert_eq!((none.command.as_str(), none.place), ("bash", BreakPlace::AsHooks));
        let given = BreakPoints::of(&environment(&[("break_cmd", "cp a b"), ("break_outside_target", "1")]));
        assert_eq!((given.command.as_str(), given.place), ("cp a b", BreakPlace::Outside));
    }
}
