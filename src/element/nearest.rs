//! Guesses what was meant by a name that nobody knows.

/// How like a known name has to be, from 0 to 1. Below it, a hint misleads more than it helps.
const LIKE_ENOUGH: f64 = 0.8;

/// Returns the one of `known` that is most like `name`, if one is like it at all; of equals, the first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
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
