//! Events as lines of text.

use std::collections::BTreeMap;

use crate::oci::DiffId;
use crate::port::{Direction, Event, How};

/// Turns events into lines. Keeps where each image is.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    images: BTreeMap<String, Position>,
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
            Event::TaskStarted { image, step, phase, task } => {
                Some(format!("{} {step}: {phase}/{task}", self.place(image)))
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
            Event::TransferStarted { .. }
            | Event::TransferProgress { .. }
            | Event::TaskOutput { .. }
            | Event::TaskFinished { .. } => None,
        }
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
