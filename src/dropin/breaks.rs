//! Break points, at which a build stops for inspection.
//!
//! ```text
//! break=before-install,after-error  break_cmd='cp …' break_outside_target=1
//! ```
//!
//! Source: diskimage-builder, `lib/common-functions`, `check_break`.

use std::collections::BTreeSet;

use super::variables::{Environment, flag, text};
use crate::element::{Phase, PhaseClass};
use crate::port::Moment;

/// The root directory of the command at a break point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakPlace {
    /// The root of the phase's hooks.
    AsHooks,
    /// On the build host, with the target at `TMP_MOUNT_PATH`, in every phase.
    Outside,
}

/// The break points of a build, and their command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakPoints {
    points: BTreeSet<String>,
    /// The command line for a shell.
    pub command: String,
    pub place: BreakPlace,
}

impl BreakPoints {
    /// Parses the variables `break`, `break_cmd` and `break_outside_target`. Ignores unknown names,
    /// as diskimage-builder does.
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

    /// Returns the break point of `--on-error shell`: a shell after an error.
    pub fn after_error() -> Self {
        Self {
            points: [point(Moment::Failed(Phase::Install))].into(),
            command: "bash".to_owned(),
            place: BreakPlace::AsHooks,
        }
    }

    /// Returns the break point of this moment, if there is one.
    pub fn at(&self, moment: Moment) -> Option<&str> {
        self.points.get(&point(moment)).map(String::as_str)
    }

    /// Returns true if there is a break point.
    pub fn any(&self) -> bool {
        !self.points.is_empty()
    }

    /// Returns true if there is a break point before or after a phase. Hooks must then run even if
    /// their layer is cached, or the break point would be missed.
    pub fn await_phase(&self, phase: Phase) -> bool {
        [Moment::Before(phase), Moment::After(phase)].into_iter().any(|moment| self.at(moment).is_some())
    }

    /// Returns true if a break point needs phase order: in element order, each element runs its own
    /// part of a phase, so there is no single moment before or after it.
    pub fn need_phase_order(&self) -> bool {
        let shared = Phase::of_class(PhaseClass::Layer).filter(|phase| *phase != Phase::Root);
        shared.into_iter().any(|phase| self.await_phase(phase))
    }
}

fn moments() -> impl Iterator<Item = Moment> {
    let of_phase = |phase| [Moment::Before(phase), Moment::After(phase), Moment::Failed(phase)];
    Phase::ALL.into_iter().flat_map(of_phase)
}

/// Returns the name of a moment.
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
    fn a_break_point_around_a_phase_needs_phase_order() {
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
    fn a_command_runs_in_the_target_or_on_the_host() {
        let none = BreakPoints::of(&environment(&[]));
        assert_eq!((none.command.as_str(), none.place), ("bash", BreakPlace::AsHooks));
        let given = BreakPoints::of(&environment(&[("break_cmd", "cp a b"), ("break_outside_target", "1")]));
        assert_eq!((given.command.as_str(), given.place), ("cp a b", BreakPlace::Outside));
    }
}
