//! Ordered steps, their keys, and the reasons of a cache miss.

mod key;
mod record;

pub use key::{ContentKey, Field, InputKey, KeyFields};
pub use record::Record;
