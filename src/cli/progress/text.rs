//! Events as lines of text.

use std::collections::BTreeMap;

use crate::cli::report::shown;
use crate::oci::DiffId;
use crate::port::{Direction, Event, How, Pace};

/// Transfers of less are over before anybody asks how far they are.
const LARGE_BYTES: u64 = 100_000_000;

/// Turns events into lines. Keeps where each image is.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    images: BTreeMap<String, Position>,
    /// How many tenths of the transfers under way were told of.
    told_tenths: u64,
}

/// Where an image is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Steps that have begun.
    pub(super) step: usize,
    /// All of them.
    pub(super) steps: usize,
}

impl Narrator {
    /// Returns the line for an event, if it deserves one.
    pub(super) fn line(&mut self, event: &Event<'_>) -> Option<String> {
        self.text(event).map(|text| shown(&text))
    }

    fn text(&mut self, event: &Event<'_>) -> Option<String> {
        match *event {
            Event::ImageStarted { image, steps } => {
                self.images.insert(image.to_owned(), Position { step: 0, steps });
                None
            }
            Event::StepHit { image, step, diff_ids, by, from } => {
                let place = self.advance(image);
                let why = if by == "content" { ", rebuilt below to the same" } else { "" };
                let from = if from == "store" { String::new() } else { format!(" in {from}") };
                Some(format!("{place} {step}: cached {}{from}{why}", layers(diff_ids)))
            }
            Event::StepStarted { image, step } => Some(format!("{} {step}: building", self.advance(image))),
            Event::TaskStarted { task: Event::ENVIRONMENT, .. } => None,
            Event::TaskStarted { image, step, phase, task } => {
                Some(format!("{} {step}: {phase}/{task}", self.place(image)))
            }
            Event::TaskRunning { image, step, phase, task, milliseconds } => {
                let time = seconds(milliseconds);
                Some(format!("{} {step}: {phase}/{task} has been running for {time}", self.place(image)))
            }
            Event::StepFinished { image, step, diff_ids, milliseconds } => {
                let time = seconds(milliseconds);
                Some(format!("{} {step}: made {} in {time}", self.place(image), layers(diff_ids)))
            }
            Event::StageStarted { image, stage } => Some(format!("{image}: {stage}")),
            Event::StageFinished { image, stage, milliseconds } => {
                Some(format!("{image}: {stage} took {}", seconds(milliseconds)))
            }
            Event::OutputWritten { image, format, path, bytes } => {
                Some(format!("{image}: wrote {} ({format}, {})", path.display(), size(bytes)))
            }
            Event::StepsPublished { image, repository, steps, new, withheld } => {
                let rest = withheld.map_or_else(String::new, |step| {
                    format!("; `{step}` and all above stay here, as a secret was in its making")
                });
                Some(format!("{image}: published {new} new steps, {steps} in all, in {repository}{rest}"))
            }
            Event::Warning { message } => Some(format!("warning: {message}")),
            Event::TransfersStarted { repository, direction, blobs, bytes } => {
                self.told_tenths = 0;
                Some(format!("{repository}: {} {blobs} blobs ({})", verb(direction), size(bytes)))
            }
            Event::TransferFinished { repository, digest, bytes, how, milliseconds, .. } => {
                let digest = digest.short();
                Some(match how {
                    How::Moved => {
                        format!("{repository}: {digest} {} in {}", size(bytes), seconds(milliseconds))
                    }
                    How::Mounted => format!("{repository}: {digest} mounted from another repository"),
                    How::There => format!("{repository}: {digest} is there"),
                })
            }
            Event::TransfersFinished { repository, moved, milliseconds, .. } => {
                Some(format!("{repository}: moved {} in {}", size(moved), seconds(milliseconds)))
            }
            Event::TransferProgress { repository, all, .. } => self.tell_of_transfers(repository, &all),
            Event::TransferStarted { .. } | Event::TaskOutput { .. } | Event::TaskFinished { .. } => None,
        }
    }

    /// Tells of each tenth of transfers that take their time.
    fn tell_of_transfers(&mut self, repository: &str, all: &Pace) -> Option<String> {
        let tenths = (10 * all.done).checked_div(all.bytes)?;
        if tenths <= self.told_tenths || all.bytes < LARGE_BYTES {
            return None;
        }
        self.told_tenths = tenths;
        Some(format!("{repository}: {} of {}, {}", size(all.done), size(all.bytes), pace(all)))
    }

    /// Returns where `image` is.
    pub(super) fn position(&self, image: &str) -> Position {
        self.images.get(image).copied().unwrap_or_default()
    }

    fn advance(&mut self, image: &str) -> String {
        let position = self.images.entry(image.to_owned()).or_default();
        position.step += 1;
        // The final stage of a container comes after the steps that were announced.
        position.steps = position.steps.max(position.step);
        self.place(image)
    }

    fn place(&self, image: &str) -> String {
        let Position { step, steps } = self.position(image);
        format!("{image} {step}/{steps}")
    }
}

fn layers(diff_ids: &[DiffId]) -> String {
    match diff_ids {
        [] => "no layer: nothing changed".to_owned(),
        ids => ids.iter().map(DiffId::short).collect::<Vec<_>>().join(" "),
    }
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
    fn long_transfers_are_told_of_by_tenths() {
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
    fn each_step_counts_once_whether_it_is_found_or_made() {
        let mut narrator = Narrator::default();
        let image = "vm";
        narrator.line(&Event::ImageStarted { image, steps: 2 });
        let hit = Event::StepHit { image, step: "base", by: "input", from: "store", diff_ids: &[] };
        assert_eq!(narrator.line(&hit).unwrap(), "vm 1/2 base: cached no layer: nothing changed");
        let started = Event::StepStarted { image, step: "web" };
        assert_eq!(narrator.line(&started).unwrap(), "vm 2/2 web: building");
        let finished = Event::StepFinished { image, step: "web", diff_ids: &[], milliseconds: 1500 };
        assert_eq!(narrator.line(&finished).unwrap(), "vm 2/2 web: made no layer: nothing changed in 1.5 s");
    }
}
