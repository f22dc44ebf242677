//! The `Acquire` settings and accounts with which the build host's apt reaches archives.
//!
//! Source: apt.conf(5), apt_auth.conf(5), apt-transport-http(1), apt-transport-https(1); apt,
//! `ReadConfigFile`.

/// Settings below `Acquire`, in lower case, that jobs do not get, with the reason. Jobs get all
/// others.
const NOT_TAKEN: [(&str, &str); 9] = [
    ("languages", "images need no translations of descriptions"),
    ("gzipindexes", "plywood reads indices as text"),
    ("indextargets", "the image decides which indices to fetch"),
    (
        "allowinsecurerepositories",
        "trust must not depend on the build host: an element can set it in the image",
    ),
    ("allowweakrepositories", "likewise"),
    ("allowdowngradetoinsecurerepositories", "likewise"),
    ("gpgv", "likewise"),
    ("proxyautodetect", "a program of the build host; plywood runs it and passes on its answer"),
    ("proxy-auto-detect", "likewise"),
];

/// Settings whose values are files or directories of the build host.
const FILES: [&str; 6] = ["cainfo", "capath", "sslcert", "sslkey", "crlfile", "issuercert"];

/// An apt setting: its full name and its value. The name of a list entry ends with `::`.
pub type Setting = (String, String);

/// Parses the settings below `Acquire`. `text` is the content of apt's configuration files, joined
/// in the order in which apt reads them.
pub fn parse_acquire(text: &str) -> Vec<Setting> {
    let mut settings = parse(text);
    settings.retain(|(name, _)| name.to_ascii_lowercase().starts_with("acquire::"));
    settings
}

/// Returns true if jobs get a setting of the build host.
pub fn is_taken(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = name.split("::").skip(1);
    !parts.into_iter().any(|part| NOT_TAKEN.iter().any(|(refused, _)| part == *refused))
}

/// Returns true if the value of a setting is a file or directory of the build host.
pub fn names_file(name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or_default().to_ascii_lowercase();
    FILES.contains(&last.as_str())
}

/// Returns the program that returns the proxy for a URI of `scheme`, if one is configured.
pub fn proxy_detector<'a>(settings: &'a [Setting], scheme: &str) -> Option<&'a str> {
    let is_detector = |name: &str| {
        let name = name.to_ascii_lowercase();
        let mut parts = name.split("::").skip(1);
        parts.next() == Some(scheme)
            && matches!(parts.next(), Some("proxyautodetect" | "proxy-auto-detect"))
            && parts.next().is_none()
    };
    let found = settings.iter().rev().find(|(name, _)| is_detector(name));
    found.map(|(_, value)| value.as_str()).filter(|program| !program.is_empty())
}

/// Returns the passwords in `accounts`, a text in the form of apt_auth.conf(5), and in the URLs
/// among `values`.
pub fn passwords<'a>(accounts: &'a str, values: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lines = accounts.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let of_accounts = words.windows(2).filter(|pair| pair[0] == "password").map(|pair| pair[1].to_owned());
    let of_urls = values.into_iter().filter_map(|url| {
        let (_, rest) = url.split_once("://")?;
        let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
        user.split_once(':').map(|(_, password)| password.to_owned())
    });
    of_accounts.chain(of_urls).collect()
}

/// Parses statements such as `A::B "value";`, `A { B "value"; "entry of a list"; };` and
/// `#clear A;`.
fn parse(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut scopes: Vec<String> = Vec::new();
    let mut statement = Vec::new();
    for token in tokens(text) {
        match token {
            Token::Word(word) => statement.push(word),
            Token::Open => scopes.push(std::mem::take(&mut statement).concat()),
            Token::Close => drop(scopes.pop()),
            Token::End => {
                let within = |name: &str| {
                    scopes.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("::")
                };
                match std::mem::take(&mut statement).as_slice() {
                    [clear, name] if clear == "#clear" => clear_setting(&mut settings, &within(name)),
                    [name, value] => settings.push((within(name), value.clone())),
                    [entry] if !scopes.is_empty() => settings.push((within(""), entry.clone())),
                    _ => {}
                }
            }
        }
    }
    settings
}

fn clear_setting(settings: &mut Vec<Setting>, cleared: &str) {
    let cleared = cleared.trim_end_matches(':').to_ascii_lowercase();
    settings.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.strip_prefix(&cleared).is_none_or(|rest| !rest.is_empty() && !rest.starts_with("::"))
    });
}

/// A token of an apt configuration file.
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mark = match first {
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            ';' => Some(Token::End),
            _ => None,
        };
        if mark.is_some() || first.is_whitespace() {
            found.extend(mark);
            rest = &rest[first.len_utf8()..];
        } else if let Some(after) = comment_end(rest) {
            rest = after;
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (word, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            found.push(Token::Word(word.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "{};\"".contains(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

/// Returns the text after a leading comment, if the text begins with a comment.
fn comment_end(text: &str) -> Option<&str> {
    if let Some(comment) = text.strip_prefix("/*") {
        return Some(comment.split_once("*/").map_or("", |(_, after)| after));
    }
    let is_directive = text.starts_with("#clear");
    let is_comment = text.starts_with("//") || (text.starts_with('#') && !is_directive);
    is_comment.then(|| text.split_once('\n').map_or("", |(_, after)| after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_values(settings: &[Setting]) -> Vec<(&str, &str)> {
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn settings_are_read_in_every_form() {
        let text = "// Acquire::http::Proxy \"no\";\nAcquire::Check-Valid-Until \"false\"; # why\n\
                    /* Acquire::ForceIPv6 \"true\";\n more */ Acquire::ForceIPv4 true;\n\
                    Acquire { http { Proxy \"http://p:3128/\"; Pipeline-Depth 0; }; https::Proxy::host DIRECT; };\n\
                    Acquire::CompressionTypes::Order { \"gz\"; \"xz\"; };\n\
                    DPkg::Post-Invoke { \"rm -f /var/cache; true\"; };\nAcquire::http::Timeout \"7\"\n;\n\
                    Acquire::https::Verify-Peer \"false\";\n#clear Acquire::https::Verify-Peer;\n";
        let expected = [
            ("Acquire::Check-Valid-Until", "false"),
            ("Acquire::ForceIPv4", "true"),
            ("Acquire::http::Proxy", "http://p:3128/"),
            ("Acquire::http::Pipeline-Depth", "0"),
            ("Acquire::https::Proxy::host", "DIRECT"),
            ("Acquire::CompressionTypes::Order::", "gz"),
            ("Acquire::CompressionTypes::Order::", "xz"),
            ("Acquire::http::Timeout", "7"),
        ];
        assert_eq!(names_and_values(&parse_acquire(text)), expected);
    }

    #[test]
    fn a_few_settings_stay_on_the_build_host() {
        for (name, taken) in [
            ("Acquire::ForceIPv4", true),
            ("Acquire::http::Timeout", true),
            ("Acquire::https::Verify-Peer", true),
            ("Acquire::https::mirror.example::CAInfo", true),
            ("acquire::languages::", false),
            ("Acquire::AllowInsecureRepositories", false),
            ("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", false),
            ("Acquire::http::Proxy-Auto-Detect", false),
            ("Acquire::gpgv::Options::", false),
        ] {
            assert_eq!(is_taken(name), taken, "{name}");
        }
    }

    #[test]
    fn files_and_detectors_are_known_by_their_names() {
        for (name, is_file) in [
            ("Acquire::https::CAInfo", true),
            ("Acquire::https::mirror.example::SslKey", true),
            ("Acquire::http::Proxy", false),
        ] {
            assert_eq!(names_file(name), is_file, "{name}");
        }
        let settings =
            parse_acquire("Acquire::http::Proxy-Auto-Detect \"/a\"; Acquire::http::ProxyAutoDetect \"/b\";");
        assert_eq!(
            (proxy_detector(&settings, "http"), proxy_detector(&settings, "https")),
            (Some("/b"), None)
        );
    }

    #[test]
    fn passwords_are_found_in_accounts_and_urls() {
        let accounts = "# password no\nmachine m/debian login me password s3cret\nmachine n\n login you\n password x:y\n";
        let urls = ["http://proxy:3128", "http://me:pass@word@proxy/", "DIRECT", "https://token@host/"];
        assert_eq!(passwords(accounts, urls), ["s3cret", "x:y", "pass@word"]);
    }
}
