//! Process set-up.

fn main() {}
