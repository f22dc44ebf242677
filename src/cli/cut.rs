//! Texts that are too long to be read.

/// Returns the beginning and the end of a text of more than `most` characters.
pub(super) fn cut(text: String, most: usize, beginning: usize) -> String {
    // A text has at most as many characters as bytes, so short texts need no count.
    let characters = if text.len() <= most { 0 } else { text.chars().count() };
    if characters <= most {
        return text;
    }
    let end = most - beginning;
    let (head, tail): (String, String) =
        (text.chars().take(beginning).collect(), text.chars().skip(characters - end).collect());
    format!("{head} […{} characters left out…] {tail}", characters - most)
}
