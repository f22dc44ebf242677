//! Quotes words for a shell.

/// Quotes a word for a POSIX shell if necessary, for command lines that users paste.
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r#"'"'"'"#)),
    }
}

/// Returns the quoted command line.
pub fn shell_line<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    words.into_iter().map(|word| shell_word(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_parses_a_quoted_line_into_the_same_words() {
        let words = ["plain-1.0@x:/y", "", "two words", "it's", "id; rm -rf $HOME `x` \"y\" *", "~/p", "é"];
        let line = shell_line(words);
        assert_eq!(
            line,
            r#"plain-1.0@x:/y '' 'two words' 'it'"'"'s' 'id; rm -rf $HOME `x` "y" *' '~/p' 'é'"#
        );
    }
}
