//! Pinned keys of one pinned image.
//!
//! If a key here changes, every user has to rebuild that layer and all layers above it. A refactor
//! must not change any key. If the steps now produce other bytes, increase `BEHAVIOUR_VERSION` in
//! `key.rs`, and accept the new keys with `INSTA_UPDATE=always cargo test --lib plan::golden`.

use super::fixture::Image;
use crate::oci::{ChainId, DiffId, Digest};

#[test]
fn keys_are_pinned() {
    let below = ChainId::of(&[DiffId::new(Digest::of("below"))]);
    let keys: Vec<_> = Image::full()
        .plan()
        .all_steps()
        .map(|step| format!("{}\n  {}\n  {}", step.name, step.input_key, step.content_key(below)))
        .collect();
    insta::assert_snapshot!(keys.join("\n"));
}

#[test]
fn fields_are_pinned() {
    let plan = Image::full().plan();
    let fields = plan.steps[2].fields.fields().iter();
    let lines: Vec<_> = fields.map(|field| format!("{} = {}", field.label, field.value)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
