//! Parses `source-repository-<name>` files: sources to fetch and to place into the image.
//!
//! ```text
//! <name> <git|tar|file> <destination> <location> [<reference>]
//! ```
//!
//! A shell expands each line first, so it may contain variables. Variables of the image override a
//! request. They contain the request's name, with every character except letters and digits
//! replaced by `_`:
//!
//! | variable | overrides |
//! |---|---|
//! | `DIB_REPOTYPE_<name>` | the type |
//! | `DIB_REPOLOCATION_<name>` | the location |
//! | `DIB_REPOREF_<name>` | the reference |
//! | `DIB_GITREPOBASE` | scheme and host of the location of every git repository without a location of its own |
//! | `DIB_INSTALLTYPE_<name>` | whether it is fetched at all: only if the install type is `source` |
//! | `NO_SOURCE_REPOSITORIES` | nothing is fetched, if it has a value |
//!
//! Source: diskimage-builder, element `source-repositories`.

use std::collections::BTreeMap;
use std::fmt;

use super::{Element, ElementName};

/// A source to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRequest {
    pub name: String,
    /// The absolute path in the image.
    pub destination: String,
    /// The URL or path that it is fetched from.
    pub location: String,
    /// The part to fetch.
    pub selection: Selection,
}

/// The part of a location to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// A checkout of a git repository, at this reference.
    Git(GitReference),
    /// A directory of an archive: `.` for the whole archive, `*` for the content of its top
    /// directories.
    Tar(String),
    /// The file itself.
    File,
}

/// A revision of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitReference {
    /// A branch, a tag, a commit or any other ref.
    One(String),
    /// All branches and tags. The default branch is checked out.
    All,
}

/// A line of a `source-repository-<name>` file before its expansion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLine<'a> {
    /// The file, relative to the element.
    pub file: &'a str,
    pub number: usize,
    pub text: &'a str,
}

impl SourceLine<'_> {
    /// Returns true if a shell would change the line.
    pub fn needs_shell(&self) -> bool {
        self.text.contains(['$', '`', '\\', '\'', '"', '~'])
    }
}

/// A line without a valid request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` of element `{element}`, line {line}: {fault}")]
pub struct SourceLineError {
    pub element: ElementName,
    pub file: String,
    pub line: usize,
    pub fault: SourceFault,
}

/// The error in a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    #[error("`{0}` is not `<name> <git|tar|file> <destination> <location> [<reference>]`")]
    Form(String),
    #[error("unknown repository type `{0}`: expected `git`, `tar` or `file`")]
    Type(String),
    #[error("invalid destination `{0}`: expected an absolute path in the image without `..`")]
    Destination(String),
}

impl Element {
    /// Returns the lines of its `source-repository-<name>` files, by file and number, without blank
    /// lines and comments.
    pub fn source_lines(&self) -> Vec<SourceLine<'_>> {
        let wanted = |path: &str| {
            path.starts_with("source-repository-") && !path.contains('/') && !path.ends_with('~')
        };
        let files = self.files.iter().filter(|(path, _)| wanted(path));
        let texts =
            files.filter_map(|(path, file)| Some((path, std::str::from_utf8(file.text.as_deref()?).ok()?)));
        let lines = texts.flat_map(|(file, text)| {
            (1..).zip(text.lines()).map(move |(number, text)| SourceLine { file, number, text: text.trim() })
        });
        lines.filter(|line| !line.text.is_empty() && !line.text.starts_with('#')).collect()
    }
}

/// Parses one line of `element`, which a shell `expanded`, with the variables of the image.
///
/// Returns `None` if the variables disable the source.
///
/// # Errors
/// If the line has no valid request.
pub fn read_source_line(
    element: &ElementName,
    line: SourceLine<'_>,
    expanded: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Option<SourceRequest>, SourceLineError> {
    read(expanded, &Overrides(variables)).map_err(|fault| SourceLineError {
        element: element.clone(),
        file: line.file.to_owned(),
        line: line.number,
        fault,
    })
}

fn read(expanded: &str, overrides: &Overrides<'_>) -> Result<Option<SourceRequest>, SourceFault> {
    let malformed = || SourceFault::Form(expanded.to_owned());
    let mut words = expanded.split_whitespace();
    let (name, kind) = words.next().zip(words.next()).ok_or_else(malformed)?;
    if !matches!(kind, "git" | "tar" | "file" | "package") {
        return Err(SourceFault::Type(kind.to_owned()));
    }
    if !overrides.fetches(name) {
        return Ok(None);
    }
    let kind = overrides.of("DIB_REPOTYPE", name).unwrap_or(kind);
    let (destination, location) = words.next().zip(words.next()).ok_or_else(malformed)?;
    let reference = words.next();
    if words.next().is_some() {
        return Err(malformed());
    }
    Ok(Some(SourceRequest {
        name: name.to_owned(),
        destination: checked(destination)?.to_owned(),
        location: overrides.location(name, kind, location),
        selection: selection(kind, overrides.of("DIB_REPOREF", name).or(reference))?,
    }))
}

fn checked(destination: &str) -> Result<&str, SourceFault> {
    let inside = destination.starts_with('/') && !destination.split('/').any(|part| part == "..");
    if inside { Ok(destination) } else { Err(SourceFault::Destination(destination.to_owned())) }
}

fn selection(kind: &str, reference: Option<&str>) -> Result<Selection, SourceFault> {
    match kind {
        "git" => Ok(Selection::Git(match reference.unwrap_or("master") {
            "*" => GitReference::All,
            one => GitReference::One(one.to_owned()),
        })),
        "tar" => Ok(Selection::Tar(reference.unwrap_or("*").to_owned())),
        "file" => Ok(Selection::File),
        other => Err(SourceFault::Type(other.to_owned())),
    }
}

/// Overrides of requests by variables of the image.
struct Overrides<'a>(&'a BTreeMap<String, String>);

impl<'a> Overrides<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn of(&self, prefix: &str, request: &str) -> Option<&'a str> {
        self.get(&variable(prefix, request))
    }

    fn fetches(&self, request: &str) -> bool {
        let own = self.of("DIB_INSTALLTYPE", request);
        let install_type = own.or_else(|| self.get("DIB_DEFAULT_INSTALLTYPE")).unwrap_or("source");
        self.get("NO_SOURCE_REPOSITORIES").is_none() && install_type == "source"
    }

    fn location(&self, request: &str, kind: &str, location: &str) -> String {
        match (self.of("DIB_REPOLOCATION", request), self.get("DIB_GITREPOBASE")) {
            (Some(own), _) => own.to_owned(),
            (None, Some(base)) if kind == "git" => rebased(location, base),
            _ => location.to_owned(),
        }
    }
}

/// Returns the name of a variable that overrides part of a request.
fn variable(prefix: &str, request: &str) -> String {
    let name: String = request.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{prefix}_{name}")
}

/// Replaces scheme, host, slash and user of a location by `base`: `https://host/~me/nova` becomes
/// `<base>/nova`, and `https://host/nova` becomes `<base>nova`, as in diskimage-builder. A location
/// of another form stays as it is.
fn rebased(location: &str, base: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let Some((host, path)) = rest.split_once('/') else { return location.to_owned() };
    if scheme.is_empty() || scheme.contains(':') || host.is_empty() {
        return location.to_owned();
    }
    let user = path.strip_prefix('~').and_then(|path| path.find('/').filter(|&end| end > 0));
    format!("{base}{}", user.map_or(path, |end| &path[end + 1..]))
}

impl fmt::Display for Selection {
    /// Formats the type and the reference as in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::Git(GitReference::One(reference)) => write!(f, "git {reference}"),
            Selection::Git(GitReference::All) => f.write_str("git *"),
            Selection::Tar(directory) => write!(f, "tar {directory}"),
            Selection::File => f.write_str("file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    fn read_with(line: &str, variables: &[(&str, &str)]) -> String {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let place = SourceLine { file: "source-repository-web", number: 3, text: line };
        match read_source_line(&"web".parse().unwrap(), place, line, &variables) {
            Ok(None) => "not fetched".to_owned(),
            Ok(Some(request)) => {
                format!("{} {} {} {}", request.name, request.selection, request.destination, request.location)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_form_of_a_line_is_read() {
        let place = "`source-repository-web` of element `web`, line 3: ";
        let form = "is not `<name> <git|tar|file> <destination> <location> [<reference>]`";
        let table = [
            ("web git /opt/web https://h/web", "web git master /opt/web https://h/web".to_owned()),
            ("web git /opt/web https://h/web v1.2", "web git v1.2 /opt/web https://h/web".to_owned()),
            ("web git /opt/web /srv/web *", "web git * /opt/web /srv/web".to_owned()),
            ("web tar /opt/web https://h/w.tgz", "web tar * /opt/web https://h/w.tgz".to_owned()),
            ("web tar /opt/web https://h/w.tgz .", "web tar . /opt/web https://h/w.tgz".to_owned()),
            ("web tar /opt/web https://h/w.tgz a/b", "web tar a/b /opt/web https://h/w.tgz".to_owned()),
            ("web file /opt/w file:///srv/w", "web file /opt/w file:///srv/w".to_owned()),
            ("web", format!("{place}`web` {form}")),
            ("web git /opt/web", format!("{place}`web git /opt/web` {form}")),
            ("web git /a b c d", format!("{place}`web git /a b c d` {form}")),
            (
                "web hg /opt/web b",
                format!("{place}unknown repository type `hg`: expected `git`, `tar` or `file`"),
            ),
            (
                "web package /opt/web b",
                format!("{place}unknown repository type `package`: expected `git`, `tar` or `file`"),
            ),
            (
                "web file opt b",
                format!(
                    "{place}invalid destination `opt`: expected an absolute path in the image without `..`"
                ),
            ),
            (
                "web file /opt/../x b",
                format!(
                    "{place}invalid destination `/opt/../x`: expected an absolute path in the image without `..`"
                ),
            ),
        ];
        for (line, expected) in table {
            assert_eq!(read_with(line, &[]), expected, "{line}");
        }
    }

    #[test]
    fn variables_of_the_image_override_a_line() {
        let line = "my.web git /opt/web https://h/~me/org/web v1";
        let table: [(&[(&str, &str)], &str); 9] = [
            (&[("DIB_REPOREF_my_web", "v2")], "my.web git v2 /opt/web https://h/~me/org/web"),
            (&[("DIB_REPOREF_my_web", "")], "my.web git v1 /opt/web https://h/~me/org/web"),
            (&[("DIB_REPOLOCATION_my_web", "/srv/web")], "my.web git v1 /opt/web /srv/web"),
            (&[("DIB_REPOTYPE_my_web", "tar")], "my.web tar v1 /opt/web https://h/~me/org/web"),
            (&[("DIB_GITREPOBASE", "git://m/")], "my.web git v1 /opt/web git://m//org/web"),
            (
                &[("DIB_GITREPOBASE", "git://m/"), ("DIB_REPOLOCATION_my_web", "/x")],
                "my.web git v1 /opt/web /x",
            ),
            (&[("NO_SOURCE_REPOSITORIES", "1")], "not fetched"),
            (&[("DIB_DEFAULT_INSTALLTYPE", "package")], "not fetched"),
            (
                &[("DIB_DEFAULT_INSTALLTYPE", "package"), ("DIB_INSTALLTYPE_my_web", "source")],
                "my.web git v1 /opt/web https://h/~me/org/web",
            ),
        ];
        for (variables, expected) in table {
            assert_eq!(read_with(line, variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_base_replaces_scheme_host_and_user_and_nothing_else() {
        for (location, expected) in [
            ("https://h/a/b", "B/a/b"),
            ("https://h/~u/a", "B//a"),
            ("git@h:a/b", "git@h:a/b"),
            ("/srv/a", "/srv/a"),
            ("file:///srv/a", "file:///srv/a"),
        ] {
            assert_eq!(rebased(location, "B/"), expected, "{location}");
        }
    }

    #[test]
    fn lines_have_file_number_and_need_of_a_shell() {
        let element = element("web")
            .file("source-repository-web", "# note\n\n  web git /opt/web $URL\n")
            .file("source-repository-old~", "old file /x /y\n")
            .file("source-repository-zoo", "zoo file /x /y")
            .build();
        let lines = element.source_lines();
        let found: Vec<_> =
            lines.iter().map(|line| (line.file, line.number, line.text, line.needs_shell())).collect();
        let expected = [
            ("source-repository-web", 3, "web git /opt/web $URL", true),
            ("source-repository-zoo", 1, "zoo file /x /y", false),
        ];
        assert_eq!(found, expected);
    }
}
