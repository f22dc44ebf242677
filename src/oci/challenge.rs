//! The header `WWW-Authenticate`, by which a registry says which credentials it requires.
//!
//! Source: RFC 9110, 11.6.1; distribution-spec, "Authentication"; the token flow of the
//! Distribution registry.

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token of a token service.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// The registry that the token is for.
        service: Option<String>,
        /// The scope that the refused request needs.
        scope: Option<String>,
    },
}

/// Returns the challenges in one header, in order. Leaves out those that plywood does not support.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_word(rest);
        if word.is_empty() {
            return schemes.iter().filter_map(challenge).collect();
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = split_value(value.trim_start());
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                schemes.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn challenge((scheme, parameters): &(String, Vec<(String, String)>)) -> Option<Challenge> {
    let value =
        |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let realm = value("realm")?;
            Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") })
        }
        _ => None,
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

/// Returns a value, quoted or not, and the rest of the text.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = split_word(text);
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn a_comma_within_quotes_does_not_separate() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let expected =
            bearer("https://auth.example/token", Some("registry.example"), Some("repository:a/b:pull,push"));
        assert_eq!(parse_challenges(header), [expected]);
    }

    #[test]
    fn every_form_of_a_header_is_read() {
        let cases = [
            (r#"Basic realm="a, b=c""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (r#"Bearer realm = "r" , service = s"#, vec![bearer("r", Some("s"), None)]),
            (r#"Basic realm="x", BEARER realm="r\"q""#, vec![Challenge::Basic, bearer("r\"q", None, None)]),
            (r#"Negotiate, Digest realm="d", Basic"#, vec![Challenge::Basic]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="open"#, vec![bearer("open", None, None)]),
            (r#"="" , "x"#, vec![]),
            ("", vec![]),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_challenges(header), expected, "{header}");
        }
    }
}
