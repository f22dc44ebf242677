//! Transfers in the live display: a bar for each blob, and one line for the total.

use std::collections::BTreeMap;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::text::{pace, size};
use crate::oci::Digest;
use crate::port::{Direction, Event, Pace};

/// Bars of the running transfers.
#[derive(Debug, Default)]
pub(super) struct TransferBars {
    blobs: Mutex<BTreeMap<Digest, ProgressBar>>,
}

impl TransferBars {
    /// Updates the bars for an event; returns the line for all transfers.
    pub(super) fn draw(&self, display: &MultiProgress, event: &Event<'_>) -> Option<String> {
        let mut blobs = self.blobs.lock().unwrap_or_else(|held| held.into_inner());
        match *event {
            Event::TransferProgress { direction, digest, blob, all, .. } => {
                let bar = blobs.entry(*digest).or_insert_with(|| display.add(bar(direction, digest, &blob)));
                bar.set_position(blob.done);
                bar.set_message(pace(&blob));
                Some(format!("{} of {}, {}", size(all.done), size(all.bytes), pace(&all)))
            }
            Event::TransferFinished { digest, .. } => {
                if let Some(bar) = blobs.remove(digest) {
                    bar.finish_and_clear();
                    display.remove(&bar);
                }
                None
            }
            _ => None,
        }
    }
}

fn bar(direction: Direction, digest: &Digest, pace: &Pace) -> ProgressBar {
    let arrow = match direction {
        Direction::Push => "↑",
        Direction::Pull => "↓",
    };
    let style = ProgressStyle::with_template("  {prefix} {bar:30} {percent:>3} % {wide_msg}");
    let bar = ProgressBar::new(pace.bytes).with_prefix(format!("{arrow} {}", digest.short()));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
