//! Suggests a known name for an unknown one.

/// The minimum similarity to a known name, from 0 to 1. Below it, a hint misleads more than it
/// helps.
const LIKE_ENOUGH: f64 = 0.8;

/// Returns the most similar name of `known`, if it is similar enough. Of equally similar names,
/// returns the first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// Rejects a misspelled key of a file. Ignores other unknown keys as diskimage-builder does, because
/// elements use them for remarks.
///
/// # Errors
/// A message that names the key that was meant.
pub(super) fn not_misspelled<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    nearest(key, known).map_or(Ok(()), |near| Err(format!("unknown key `{key}`: did you mean `{near}`?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_has_a_suggestion_and_an_unrelated_one_has_none() {
        let known = ["elements", "environment", "base", "openssh-server"];
        let table = [
            ("elemnts", Some("elements")),
            ("openssh_server", Some("openssh-server")),
            ("bsae", Some("base")),
            ("zzz", None),
            ("kubernetes", None),
        ];
        for (name, expected) in table {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
