//! Errors for users: what failed, why, and the next command or edit.

use std::error::Error;
use std::fmt::Write as _;

use super::cut::cut;
use crate::engine::line as one_line;
pub(super) use crate::engine::{Failure, Message, causes_from};

/// Returns the text for an error: its chain of causes, then the output of the hook, then a hint.
/// `plywood` begins the commands in hints.
pub(super) fn render(error: &Failure, plywood: &str) -> String {
    let mut text = chain(error);
    for line in super::hint::details(error.as_ref()) {
        let _ = writeln!(text, "{}", shown(&line));
    }
    if let Some(hint) = hint_of(error.as_ref(), plywood) {
        let _ = write!(text, "\nhint: {}\n", shown(&hint));
    }
    text
}

/// Returns an error with its chain of causes, without a hint.
pub(super) fn chain(error: &Failure) -> String {
    let causes = causes(error).into_iter().map(|cause| format!("  Caused by: {}\n", printable(&cause)));
    [format!("error: {}\n", shown(&error.to_string()))].into_iter().chain(causes).collect()
}

/// Returns the chain of causes as one line.
pub(super) fn line(error: &Failure) -> String {
    bounded(one_line(error.as_ref()))
}

/// Returns the last line of `--progress json` for an error.
pub(super) fn render_json(error: &Failure, plywood: &str) -> String {
    let document = serde_json::json!({
        "event": "failed",
        "message": bounded(error.to_string()),
        "causes": causes(error),
        "details": super::hint::details(error.as_ref()),
        "hint": hint_of(error.as_ref(), plywood).map(bounded),
    });
    format!("{document}\n")
}

fn causes(error: &Failure) -> Vec<String> {
    causes_from(error.as_ref()).skip(1).map(|cause| bounded(cause.to_string())).collect()
}

fn own_hint(error: &(dyn Error + 'static), plywood: &str) -> Option<String> {
    error.downcast_ref::<Message>()?.hint(plywood)
}

/// The maximum length of a message in characters. Paths and names from archives, registries and
/// hooks can have any length.
const MAX_CHARACTERS: usize = 2000;
/// The characters that are kept at the beginning of a longer message; the rest of the limit is kept
/// at its end.
const BEGINNING: usize = 1500;

/// Returns a message, with its middle left out if it is too long.
pub(super) fn bounded(text: String) -> String {
    cut(text, MAX_CHARACTERS, BEGINNING)
}

/// Returns a message that is safe to show on a terminal.
pub(super) fn shown(text: &str) -> String {
    printable(&bounded(text.to_owned()))
}

/// Replaces control characters, which could control the terminal. Hooks, registries and archives
/// choose their texts freely.
pub(super) fn printable(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\t' | '\n');
    text.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// Returns the next command or edit after an error, if one is known.
pub(super) fn hint_of(error: &(dyn Error + 'static), plywood: &str) -> Option<String> {
    // The outermost error with a hint wins, because it knows best what the user wanted.
    let hint = |error| own_hint(error, plywood).or_else(|| super::hint::for_error(error, plywood));
    causes_from(error).find_map(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_lose_their_middle() {
        let path = format!("/{}/end", "é".repeat(5000));
        let failure = Message::with_hint(format!("cannot read `{path}`"), format!("rm {path}"));
        let texts =
            [chain(&failure), line(&failure), render(&failure, "plywood"), render_json(&failure, "p")];
        for text in texts {
            assert!(text.chars().count() < 5000 && text.contains("characters left out"), "{text}");
            assert!(text.contains("cannot read `/é") && text.contains("é/end`"), "{text}");
        }
        assert_eq!(bounded("é".repeat(2000)).chars().count(), 2000);
        assert_eq!(cut("0123456789".to_owned(), 4, 3), "012 […6 characters left out…] 9");
    }

    #[test]
    fn control_characters_are_replaced() {
        let text = chain(&Message::plain("`a\u{1b}]0;owned\u{7}b`\n\tis no layer"));
        assert_eq!(text, "error: `a\u{fffd}]0;owned\u{fffd}b`\n\tis no layer\n");
    }
}
