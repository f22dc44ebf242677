//! Distinguishes shell text that works on variables alone from text that may read files or start
//! programs.
//!
//! Most fragments of `environment.d` set defaults, so nothing on the host can change their result.
//! As everywhere in this module, shell is not parsed completely. Text that is not understood counts
//! as text that may read files. A mistake in that direction costs a build. A mistake in the other
//! direction would reuse an old layer.

use super::variables::{is_identifier, is_word_character};

/// Builtin commands of the shell that read no file.
const BUILTINS: [&str; 16] = [
    ":", "break", "continue", "declare", "echo", "exit", "export", "false", "local", "printf", "readonly",
    "return", "set", "shift", "true", "unset",
];
/// Words before and after which a command begins.
const KEYWORDS: [&str; 12] =
    ["!", "{", "}", "do", "done", "elif", "else", "fi", "if", "then", "until", "while"];
/// Test operators on strings, numbers and variables. All other operators that begin with a dash
/// test files.
const TESTS_OF_STRINGS: [&str; 9] = ["-n", "-z", "-v", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"];

/// Returns true if `text`, sourced by bash, certainly reads no file and starts no program.
pub fn is_pure_shell(text: &str) -> bool {
    Scanner::new(text).tokens().is_some_and(|tokens| look_at_no_file(&tokens))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A word without its quotes. `is_pattern` is true if it may expand to file names.
    Word { text: String, is_pattern: bool },
    /// The end of a command.
    End,
    /// `;;`, followed by a pattern of `case`.
    EndOfBranch,
    /// `)`, which ends a pattern of `case`.
    Closing,
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    tokens: Vec<Token>,
    word: Option<(String, bool)>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), tokens: Vec::new(), word: None }
    }

    /// Returns the tokens; `None` if the text has a redirection, a command substitution, a function
    /// or an array.
    fn tokens(mut self) -> Option<Vec<Token>> {
        while let Some(c) = self.rest.next() {
            match c {
                '\'' => self.single_quoted(),
                '"' => self.double_quoted()?,
                '$' => self.expansion(false)?,
                '`' | '<' | '>' | '(' => return None,
                '\\' => self.escaped(),
                '#' if self.word.is_none() => self.comment(),
                ')' => self.end(Token::Closing),
                ';' if self.rest.next_if_eq(&';').is_some() => self.end(Token::EndOfBranch),
                ';' | '\n' | '&' | '|' => self.end(Token::End),
                c if c.is_whitespace() => self.end_word(),
                c => self.push(c, is_of_pattern(c)),
            }
        }
        self.end(Token::End);
        Some(self.tokens)
    }

    fn push(&mut self, c: char, is_pattern: bool) {
        let (text, has_pattern) = self.word.get_or_insert_default();
        text.push(c);
        *has_pattern |= is_pattern;
    }

    fn end_word(&mut self) {
        let word = self.word.take();
        self.tokens.extend(word.map(|(text, is_pattern)| Token::Word { text, is_pattern }));
    }

    fn end(&mut self, token: Token) {
        self.end_word();
        self.tokens.push(token);
    }

    fn comment(&mut self) {
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    fn escaped(&mut self) {
        match self.rest.next() {
            Some('\n') | None => {}
            Some(c) => self.push(c, false),
        }
    }

    fn single_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(c) = self.rest.next_if(|c| *c != '\'') {
            self.push(c, false);
        }
        self.rest.next();
    }

    fn double_quoted(&mut self) -> Option<()> {
        self.word.get_or_insert_default();
        loop {
            match self.rest.next()? {
                '"' => return Some(()),
                '`' => return None,
                '$' => self.expansion(true)?,
                '\\' => self.escaped(),
                c => self.push(c, false),
            }
        }
    }

    /// Reads the text after a `$`. The value of a variable can expand to file names only if it is
    /// unquoted and contains a pattern. Fragments are assumed to have no such values.
    fn expansion(&mut self, is_quoted: bool) -> Option<()> {
        self.push('$', false);
        match self.rest.peek() {
            // `$(command)`; and `$'it\'s'`, whose quoting differs.
            Some('(' | '\'') => None,
            Some('{') => self.braces(is_quoted),
            _ => Some(()),
        }
    }

    fn braces(&mut self, is_quoted: bool) -> Option<()> {
        self.rest.next();
        // `${ command; }` and `${| command; }` of bash 5.3.
        if self.rest.peek().is_some_and(|c| c.is_whitespace() || *c == '|') {
            return None;
        }
        loop {
            match self.rest.next()? {
                '}' => return Some(()),
                '`' => return None,
                '$' => self.expansion(is_quoted)?,
                '\\' => self.escaped(),
                // In `"${A:-it's}"` the quote is a letter, in `"${A#'x'}"` it is a quote. A wrong
                // guess would hide the commands up to the next quote.
                '\'' if is_quoted => return None,
                '\'' => self.single_quoted(),
                '"' => self.double_quoted()?,
                // An unquoted default is a file pattern, as in `for x in ${A:-/etc/*}`.
                c => self.push(c, !is_quoted && is_of_pattern(c)),
            }
        }
    }
}

fn is_of_pattern(c: char) -> bool {
    matches!(c, '*' | '?' | '[')
}

/// The position of a word in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The first word of a command.
    Command,
    /// An argument of a command that reads no file.
    Argument,
    /// An argument of `[`.
    Test,
    /// An argument of `[[`, where patterns match strings.
    StringTest,
    /// The word of `case`, or `in`.
    Case,
    /// A pattern of `case`.
    CasePattern,
}

/// Returns true if no command reads files.
fn look_at_no_file(tokens: &[Token]) -> bool {
    tokens.iter().try_fold(Place::Command, after).is_some()
}

/// Returns the position after `token` at `place`; `None` if the token may read files.
fn after(place: Place, token: &Token) -> Option<Place> {
    match (token, place) {
        (Token::Word { text, is_pattern }, _) => after_word(place, text, *is_pattern),
        (Token::End, Place::CasePattern) | (Token::EndOfBranch, _) => Some(Place::CasePattern),
        (Token::End, _) | (Token::Closing, Place::CasePattern) => Some(Place::Command),
        (Token::Closing, _) => None,
    }
}

fn after_word(place: Place, word: &str, is_pattern: bool) -> Option<Place> {
    match place {
        Place::Command => after_command(word),
        // In assignments by `export` and similar builtins, bash does not expand patterns.
        Place::Argument => (!is_pattern || is_assignment(word)).then_some(place),
        Place::Test => (!is_pattern && asks_of_strings(word)).then_some(place),
        Place::StringTest => asks_of_strings(word).then_some(place),
        Place::Case if word == "in" => Some(Place::CasePattern),
        Place::CasePattern if word == "esac" => Some(Place::Argument),
        Place::Case | Place::CasePattern => Some(place),
    }
}

fn after_command(word: &str) -> Option<Place> {
    match word {
        "case" => Some(Place::Case),
        "[" | "test" => Some(Place::Test),
        "[[" => Some(Place::StringTest),
        "esac" | "for" => Some(Place::Argument),
        // `A=b command` runs the command: an assignment alone ends at the end of its line.
        _ if KEYWORDS.contains(&word) || is_assignment(word) => Some(Place::Command),
        _ => BUILTINS.contains(&word).then_some(Place::Argument),
    }
}

fn asks_of_strings(word: &str) -> bool {
    !word.starts_with('-') || TESTS_OF_STRINGS.contains(&word)
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    is_identifier(name) && name.chars().all(is_word_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_tests_of_strings_read_no_file() {
        for text in [
            "",
            "# a comment with $(cat /etc/x)\nexport DIB_A=\"${DIB_A:-cloud}\" # and `one` more\n",
            "export A=${A:-x} B='$(no)' C=*\nD=\"a\\\"b\"; E=$D\nreadonly A",
            "if [ \"$A\" = \"b\" ] || [[ $A == b* ]]; then\n  export B=c\nelif [ -z \"$B\" ]; then unset C; fi",
            "case \"${ARCH:-}\" in\n  arm64|riscv*) export C=a ;;\n  *) export C=b ;;\nesac\n",
            "case $A in a) echo a;; esac; for x in a b; do A+=$x; done",
            "export A=${B//\\// } C=\"${D#*/}\" \\\n  E=f",
            ": ${A:=b}\nset -eu -o pipefail\n[ -n \"${A}\" ] && export A",
            "export P='a\n  $(b)\n  c'",
        ] {
            assert!(is_pure_shell(text), "{text}");
        }
    }

    #[test]
    fn text_that_may_read_files_or_is_not_understood_is_not_pure() {
        for text in [
            "export A=$(cat /etc/x)",
            "export A=\"`uname -m`\"",
            "export A=${B:-$(id)}",
            "[ -e /etc/x ] && export A=b",
            "if test -d $X; then A=b; fi",
            "[[ /a -nt /b ]] && A=b",
            "source /etc/x",
            ". $DIR/x",
            "A=b command",
            "export A=b; python3 -c 1",
            "for x in /etc/*; do A=$x; done",
            "echo /opt/*",
            "read A < /etc/x",
            "A=<(b)",
            "A=(/etc/*)",
            "f() { cat /etc/x; }\nf",
            "$A b",
            "eval \"$A\"",
            "case $(a) in b) c=d;; esac",
            "case $A in b) cat /etc/x;; esac",
            "case $A in b) C=d;; e) [ -f /etc/x ];; esac",
            "export A=\"unfinished",
            "export A=\"${A:-it's}\"\nexport B=$(cat /etc/x)\nexport C=\"${C:-it's}\"",
            "A=$'\\'' ; cat /etc/x #'",
            "A=${ cat /etc/x; }",
            "for x in ${A:-/etc/*}; do B=$x; done",
        ] {
            assert!(!is_pure_shell(text), "{text}");
        }
    }
}
