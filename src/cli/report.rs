//! Errors as the user sees them: what failed, because of what, and what to type next.

use std::error::Error;
use std::fmt::Write as _;

use crate::engine::line as one_line;
pub(super) use crate::engine::{Failure, Message, causes_from};

/// Returns the text for an error: its chain of causes, then the output it has, then a hint. `plywood` begins the commands
/// that hints name.
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

/// Returns the text for an error with its chain of causes alone.
pub(super) fn chain(error: &Failure) -> String {
    let causes = causes(error).into_iter().map(|cause| format!("  Caused by: {}\n", printable(&cause)));
    [format!("error: {}\n", shown(&error.to_string()))].into_iter().chain(causes).collect()
}

/// Returns the same as one line.
pub(super) fn line(error: &Failure) -> String {
    bounded(one_line(error.as_ref()))
}

/// Returns the same as the last line of `--progress json`.
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

/// The most characters of a message. Paths and names from archives, registries and hooks are as long as others like.
const MAX_CHARACTERS: usize = 2000;
/// How many of them are its beginning, if there are more; the others are its end.
const BEGINNING: usize = 1500;

/// Returns a message without its middle, if it is too long to be read.
pub(super) fn bounded(text: String) -> String {
    cut(text, MAX_CHARACTERS, BEGINNING)
}

/// Returns the beginning and the end of a text of more than `most` characters.
pub(super) fn cut(text: String, most: usize, beginning: usize) -> String {
    // No text has more characters than bytes, so that nearly all are not counted.
    let characters = if text.len() <= most { 0 } else { text.chars().count() };
    if characters <= most {
        return text;
    }
    let end = most - beginning;
    let (head, tail): (String, String) =
        (text.chars().take(beginning).collect(), text.chars().skip(characters - end).collect());
    format!("{head} […{} characters left out…] {tail}", characters - most)
}

/// Returns a message as it may be shown on a terminal.
pub(super) fn shown(text: &str) -> String {
    printable(&bounded(text.to_owned()))
}

/// Takes from a text what would command the terminal: hooks print what they like, registries and archives name things as
/// they like.
pub(super) fn printable(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\t' | '\n');
    text.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// Returns what to type next after an error, where something is known.
pub(super) fn hint_of(error: &(dyn Error + 'static), plywood: &str) -> Option<String> {
    // The outermost error that has one: it knows best what was wanted.
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
    fn no_text_commands_the_terminal() {
        let text = chain(&Message::plain("`a\u{1b}]0;owned\u{7}b`\n\tis no layer"));
        assert_eq!(text, "error: `a\u{fffd}]0;owned\u{fffd}b`\n\tis no layer\n");
    }
}
