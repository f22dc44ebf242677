//! Secrets in what is printed of jobs: `set -x`, a program's own trace, an error message.

use crate::element::Environment;
use crate::plan::secret_texts;

/// What stands for a secret.
const STARS: &[u8] = b"***";

/// Shorter texts (`yes`, `1`) keep nothing secret, and masking them would spoil every log.
const MIN_BYTES: usize = 4;

/// The secrets of one environment.
pub struct Mask {
    /// The longest first, as one may be part of another.
    secrets: Vec<Vec<u8>>,
}

impl Mask {
    /// Returns a mask for the secrets among these variables. Output is masked line by line, so each line of a secret
    /// counts for itself.
    pub fn of(environment: &Environment) -> Self {
        let texts = environment.iter().flat_map(|(name, value)| secret_texts(name, value));
        let mut secrets: Vec<_> = texts.filter(|line| line.len() >= MIN_BYTES).flat_map(spellings).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// Returns a line of text without secrets.
    pub fn text(&self, line: &str) -> String {
        String::from_utf8_lossy(&self.apply(line.as_bytes())).into_owned()
    }

    /// Returns `line` without secrets.
    pub(super) fn apply(&self, line: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(line.len());
        let mut rest = line;
        while let Some(&byte) = rest.first() {
            match self.secrets.iter().find(|secret| rest.starts_with(secret)) {
                Some(secret) => {
                    masked.extend_from_slice(STARS);
                    rest = &rest[secret.len()..];
                }
                None => {
                    masked.push(byte);
                    rest = &rest[1..];
                }
            }
        }
        masked
    }
}

/// Returns how a text is printed: as it is, and as a shell's trace quotes it.
fn spellings(text: &str) -> [Vec<u8>; 2] {
    [text.as_bytes().to_vec(), text.replace('\'', r"'\''").into_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_spelling_and_nothing_else_is() {
        let variables = [
            ("DIB_A_PASSWORD", "hunter2"),
            ("DIB_B_PASSWORD", "hunter22"),
            ("DIB_C_TOKEN", "it's me"),
            ("DIB_D_SECRET", "first line\n  second line\n"),
            ("DIB_PASSWORD_LOGIN", "yes"),
            ("DIB_RELEASE", "bookworm"),
            ("DIB_REPOLOCATION_x", "https://me:pass@git.example/x"),
        ];
        let mask = Mask::of(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for (line, expected) in [
            ("+ export DIB_A_PASSWORD=hunter2\n", "+ export DIB_A_PASSWORD=***\n"),
            ("hunter22hunter2", "******"),
            ("hunter", "hunter"),
            (r"+ login 'it'\''s me'", "+ login '***'"),
            ("it's me", "***"),
            ("second line", "***"),
            ("yes bookworm", "yes bookworm"),
            ("curl --user me:pass https://git.example/x", "curl --user me:*** https://git.example/x"),
            ("cloning https://me:pass@git.example/x", "cloning https://me:***@git.example/x"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(mask.apply(line.as_bytes())).unwrap(), expected, "{line}");
        }
    }
}
