//! Events as lines of text.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::cli::report::shown;
use crate::oci::DiffId;
use crate::plan::{Found, StepName};
use crate::port::{Direction, Event, How, Pace};

/// Smaller transfers end before a progress line is useful.
const LARGE_BYTES: u64 = 100_000_000;

/// Turns events into lines, and tracks the position of each image.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    images: BTreeMap<String, Position>,
    /// The last tenth of the running transfers for which a line was printed.
    told_tenths: u64,
}

/// The progress of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// The number of steps that have begun.
    pub(super) step: usize,
    /// The total number of steps; 0 if it was not announced.
    pub(super) steps: usize,
    /// The last step that began. The final stage begins again for each kind of output.
    last: Option<StepName>,
}

impl Narrator {
    /// Returns the line for an event; `None` for minor events.
    pub(super) fn line(&mut self, event: &Event<'_>) -> Option<String> {
        self.text(event).map(|text| shown(&text))
    }

    fn text(&mut self, event: &Event<'_>) -> Option<String> {
        match *event {
            Event::ImageStarted { image, steps } => {
                self.images.insert(image.to_owned(), Position { step: 0, steps, last: None });
                None
            }
            Event::StepHit { image, step, diff_ids, by, from } => {
                let place = self.advance(image, step);
                let why = if by == Found::Content { "; the layers below it came out the same" } else { "" };
                let from = if from == "store" { String::new() } else { format!(" in {from}") };
                Some(match layers(diff_ids) {
                    Some(layers) => format!("{place} {step}: cached {layers}{from}{why}"),
                    None => format!("{place} {step}: cached{from}: nothing to add"),
                })
            }
            Event::StepStarted { image, step } => {
                Some(format!("{} {step}: building", self.advance(image, step)))
            }
            Event::TaskStarted { task: Event::ENVIRONMENT, .. } => None,
            Event::TaskStarted { image, step, phase, task } => {
                Some(format!("{} {step}: {phase}/{task}", self.place(image)))
            }
            Event::TaskRunning { image, step, phase, task, milliseconds } => {
                let time = seconds(milliseconds);
                Some(format!("{} {step}: {phase}/{task} has been running for {time}", self.place(image)))
            }
            Event::StepFinished { image, step, diff_ids, milliseconds } => {
                let (place, time) = (self.place(image), seconds(milliseconds));
                Some(match layers(diff_ids) {
                    Some(layers) => format!("{place} {step}: made {layers} in {time}"),
                    None => format!("{place} {step}: nothing to add ({time})"),
                })
            }
            Event::StageStarted { image, stage } => Some(format!("{image}: {stage}")),
            Event::StageFinished { image, stage, milliseconds } => {
                Some(format!("{image}: {stage} took {}", seconds(milliseconds)))
            }
            Event::OutputWritten { image, format, path, bytes } => {
                Some(format!("{image}: wrote {} ({format}, {})", path.display(), size(bytes)))
            }
            Event::StepsPublished { image, repository, steps, new, withheld, secrets } => {
                let rest = withheld.map_or_else(String::new, |step| {
                    let secrets = count_and_list("secret", secrets);
                    format!(
                        "; not published: `{step}` and the steps above it, because `{step}` reads the {secrets}"
                    )
                });
                let new = count(new, "new step");
                Some(format!("{image}: published {new}, {steps} in all, in {repository}{rest}"))
            }
            Event::Warning { message } => Some(format!("warning: {message}")),
            Event::TransfersStarted { repository, direction, blobs, bytes } => {
                self.told_tenths = 0;
                Some(format!("{repository}: {} {} ({})", verb(direction), count(blobs, "blob"), size(bytes)))
            }
            Event::TransferFinished { repository, digest, bytes, how, milliseconds, .. } => {
                let digest = digest.short();
                Some(match how {
                    How::Moved => {
                        format!("{repository}: {digest} {} in {}", size(bytes), seconds(milliseconds))
                    }
                    How::Mounted => format!("{repository}: {digest} mounted from another repository"),
                    How::There => format!("{repository}: {digest} is already there"),
                })
            }
            Event::TransfersFinished { repository, moved, milliseconds, .. } => {
                Some(format!("{repository}: transferred {} in {}", size(moved), seconds(milliseconds)))
            }
            Event::TransferProgress { repository, all, .. } => self.tell_of_transfers(repository, &all),
            Event::TransferStarted { .. } | Event::TaskOutput { .. } | Event::TaskFinished { .. } => None,
        }
    }

    /// Returns a line for each tenth of large transfers.
    fn tell_of_transfers(&mut self, repository: &str, all: &Pace) -> Option<String> {
        let tenths = (10 * all.done).checked_div(all.bytes)?;
        if tenths <= self.told_tenths || all.bytes < LARGE_BYTES {
            return None;
        }
        self.told_tenths = tenths;
        Some(format!("{repository}: {} of {}, {}", size(all.done), size(all.bytes), pace(all)))
    }

    fn advance(&mut self, image: &str, step: &StepName) -> String {
        if let Some(position) =
            self.images.get_mut(image).filter(|position| position.last.as_ref() != Some(step))
        {
            position.step += 1;
            position.last = Some(step.clone());
            // The final stage comes after the announced steps.
            position.steps = position.steps.max(position.step);
        }
        self.place(image)
    }

    /// Returns the position of `image`: its name, and the number of its current step.
    pub(super) fn place(&self, image: &str) -> String {
        match self.images.get(image) {
            Some(Position { step, steps, .. }) => format!("{image} {step}/{steps}"),
            None => image.to_owned(),
        }
    }
}

fn layers(diff_ids: &[DiffId]) -> Option<String> {
    let ids: Vec<_> = diff_ids.iter().map(DiffId::short).collect();
    (!ids.is_empty()).then(|| ids.join(" "))
}

/// Returns a number of things for people.
pub(in crate::cli) fn count<N: Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Returns names of one kind for people.
fn count_and_list(kind: &str, names: &[String]) -> String {
    format!("{kind}{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

/// Returns how fast a transfer is, and how long it will take, for people.
pub(super) fn pace(pace: &Pace) -> String {
    let rate = format!("{}/s", size(pace.rate));
    match pace.seconds_left {
        Some(left) => format!("{rate}, {} left", seconds(left.saturating_mul(1000))),
        None => rate,
    }
}

fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Push => "pushing",
        Direction::Pull => "pulling",
    }
}

/// Returns a duration for people.
pub(in crate::cli) fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        0..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

/// Returns a size for people, in decimal units.
pub(in crate::cli) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let durations = [(0, "0.0 s"), (1_250, "1.2 s"), (59_999, "59.9 s"), (60_000, "1 min 0 s")];
        for (milliseconds, text) in durations {
            assert_eq!(seconds(milliseconds), text);
        }
        let sizes =
            [(999, "999 bytes"), (1_000, "1.0 kB"), (712_345_678, "712.3 MB"), (1_050_000_000, "1.0 GB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_long_transfer_has_a_line_for_each_tenth() {
        let mut narrator = Narrator::default();
        let digest = crate::oci::Digest::of("");
        let mut tell = |done, bytes| {
            let pace =
                Pace { done, bytes, rate: 10_000_000, seconds_left: Some((bytes - done) / 10_000_000) };
            let direction = Direction::Push;
            narrator.line(&Event::TransferProgress {
                repository: "r/a",
                direction,
                digest: &digest,
                blob: pace,
                all: pace,
            })
        };
        assert_eq!(tell(5_000_000, 10_000_000), None);
        assert_eq!(tell(9_000_000, 200_000_000), None);
        assert_eq!(
            tell(50_000_000, 200_000_000).unwrap(),
            "r/a: 50.0 MB of 200.0 MB, 10.0 MB/s, 15.0 s left"
        );
        assert_eq!(tell(59_000_000, 200_000_000), None);
    }

    #[test]
    fn each_step_counts_once_as_hit_or_built() {
        let mut narrator = Narrator::default();
        let (image, step) = ("vm", &"web".parse().unwrap());
        let base = &"base:debian".parse().unwrap();
        narrator.line(&Event::ImageStarted { image, steps: 2 });
        let hit = Event::StepHit { image, step: base, by: Found::Input, from: "store", diff_ids: &[] };
        assert_eq!(narrator.line(&hit).unwrap(), "vm 1/2 base:debian: cached: nothing to add");
        let started = Event::StepStarted { image, step };
        assert_eq!(narrator.line(&started).unwrap(), "vm 2/2 web: building");
        let finished = Event::StepFinished { image, step, diff_ids: &[], milliseconds: 1500 };
        assert_eq!(narrator.line(&finished).unwrap(), "vm 2/2 web: nothing to add (1.5 s)");
        let finish = Event::StepStarted { image, step: &StepName::Final };
        for _ in ["a disk", "an archive"] {
            assert_eq!(narrator.line(&finish).unwrap(), "vm 3/3 image:final: building");
        }
        let elsewhere = Event::StepStarted { image: "of a shell", step };
        assert_eq!(narrator.line(&elsewhere).unwrap(), "of a shell web: building", "no count is known");
    }

    #[test]
    fn withheld_steps_are_listed_with_the_secret() {
        let secrets = ["DIB_DEV_USER_PASSWORD".to_owned()];
        let published = Event::StepsPublished {
            image: "vm",
            repository: "host/cache",
            steps: 5,
            new: 1,
            withheld: Some(&"devuser".parse().unwrap()),
            secrets: &secrets,
        };
        assert_eq!(
            Narrator::default().line(&published).unwrap(),
            "vm: published 1 new step, 5 in all, in host/cache; not published: `devuser` and the steps above it, \
             because `devuser` reads the secret DIB_DEV_USER_PASSWORD"
        );
    }
}
