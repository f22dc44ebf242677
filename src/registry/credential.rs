//! Accounts, from the files of `docker login` and `podman login`. In this order:
//!
//! 1. `$REGISTRY_AUTH_FILE`
//! 2. `$DOCKER_CONFIG/config.json`
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`
//! 4. `$XDG_CONFIG_HOME/containers/auth.json`, by default `~/.config/containers/auth.json`
//! 5. `~/.docker/config.json`, unless `$DOCKER_CONFIG` is set
//!
//! In each file: a helper for the registry (`credHelpers`), then an entry for the repository or a
//! prefix of it (`auths`; the longest name wins), then the helper for all registries
//! (`credsStore`). The first file with an account decides.
//!
//! Source: Docker CLI reference, "Configuration files", "Credential helper protocol";
//! containers-auth.json(5).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::error::{HelperError, RegistryError};
use super::message::one_line;
use crate::directory::read_document;
use crate::exec::Run;
use crate::oci::Repository;

/// The user name in the answer of a helper that has an identity token in place of a password.
const TOKEN_USER: &str = "<token>";
/// The name of Docker Hub in these files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// Time limit for a helper. It may have to ask the user for the password of a keyring.
const HELPER_TIMEOUT: Duration = Duration::from_secs(120);

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub enum Account {
    User {
        name: String,
        password: String,
    },
    /// An identity token. The token service exchanges it for tokens of single repositories.
    Identity(String),
}

/// Shows no secret.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { name, .. } => write!(f, "User({name}, ***)"),
            Self::Identity(_) => f.write_str("Identity(***)"),
        }
    }
}

/// The files with accounts.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl Credentials {
    /// Returns the files that the variables in `environment` name.
    pub fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let path = |name: &str, rest: &str| {
            let value = environment.get(name).filter(|value| !value.is_empty())?;
            Some(Path::new(value).join(rest))
        };
        let config = path("XDG_CONFIG_HOME", "containers/auth.json");
        let files = [
            environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
            path("DOCKER_CONFIG", "config.json"),
            path("XDG_RUNTIME_DIR", "containers/auth.json"),
            config.or_else(|| path("HOME", ".config/containers/auth.json")),
            path("HOME", ".docker/config.json").filter(|_| !environment.contains_key("DOCKER_CONFIG")),
        ];
        Self { files: files.into_iter().flatten().collect() }
    }

    /// Returns the account for a repository, or `None` if no file has one. Reads the files each
    /// time, because the user may log in during a build.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] for a file that cannot be read, [`RegistryError::Helper`].
    pub fn account(&self, repository: &Repository) -> Result<Option<Account>, RegistryError> {
        for path in &self.files {
            let bytes = match read_document(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.map_err(|error| unusable(path, error.to_string()))?,
            };
            // Only the line: the text of a parse error may quote a password.
            let file: File = serde_json::from_slice(&bytes).map_err(|error| {
                unusable(path, format!("line {} is not the JSON of `docker login`", error.line()))
            })?;
            if let Some(account) = file.account(path, repository)? {
                return Ok(Some(account));
            }
        }
        Ok(None)
    }
}

impl File {
    fn account(&self, path: &Path, repository: &Repository) -> Result<Option<Account>, RegistryError> {
        let keys = keys(repository);
        let server = keys.last().map_or(repository.host(), String::as_str);
        let helper = keys.iter().find_map(|key| self.cred_helpers.get(key));
        if let Some(helper) = helper {
            return ask_helper(helper, server);
        }
        let entry = keys.iter().find_map(|key| self.entry(key));
        if let Some(account) = entry.map(|entry| entry.account(path)).transpose()?.flatten() {
            return Ok(Some(account));
        }
        if self.creds_store.is_empty() { Ok(None) } else { ask_helper(&self.creds_store, server) }
    }

    /// Returns the entry named `key`. Also finds old entries, whose names are URLs:
    /// `https://registry.example/v2/`.
    fn entry(&self, key: &str) -> Option<&Entry> {
        let plain = |name: &str| {
            let name = name.trim_start_matches("https://").trim_start_matches("http://");
            let name = name.trim_end_matches('/');
            name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name).to_owned()
        };
        self.auths
            .get(key)
            .or_else(|| self.auths.iter().find(|(name, _)| plain(name) == plain(key)).map(|(_, entry)| entry))
    }
}

impl Entry {
    fn account(&self, path: &Path) -> Result<Option<Account>, RegistryError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Account::Identity(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            let user = Account::User { name: self.username.clone(), password: self.password.clone() };
            return Ok(Some(user).filter(|_| !self.username.is_empty()));
        }
        let decoded =
            BASE64_STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        // At the first colon: a password may contain more.
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (name, password) = pair
            .ok_or_else(|| unusable(path, "an `auth` in it is not `user:password` in Base64".to_owned()))?;
        Ok(Some(Account::User {
            name: name.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// Returns the names that an account for a repository may have: the longest first, the registry
/// last.
fn keys(repository: &Repository) -> Vec<String> {
    let mut name = repository.to_string();
    let mut keys = Vec::new();
    while name.len() > repository.host().len() {
        keys.push(name.clone());
        name.truncate(name.rfind('/').unwrap_or_default());
    }
    keys.push(repository.host().to_owned());
    if repository.host() == "docker.io" {
        keys.push(DOCKER_HUB.to_owned());
    }
    keys
}

fn ask_helper(name: &str, server: &str) -> Result<Option<Account>, RegistryError> {
    let program = format!("docker-credential-{name}");
    let failed =
        |source| RegistryError::Helper { program: program.clone(), server: server.to_owned(), source };
    // A slash would make the name a path, so that the file could name any program.
    let run = Run::named(program.replace('/', "_")).arg("get").inherit_environment();
    let answer = run.ask(server.as_bytes(), HELPER_TIMEOUT).map_err(|error| failed(error.into()))?;
    if !answer.exit.success() {
        let said = one_line(&answer.output);
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(HelperError::Failed { exit: answer.exit, said })),
        };
    }
    let answer = serde_json::from_slice(&answer.output).map_err(|_| failed(HelperError::Answer))?;
    let HelperAnswer { username, secret } = answer;
    Ok(Some(match username == TOKEN_USER {
        true => Account::Identity(secret),
        false => Account::User { name: username, password: secret },
    }))
}

fn unusable(path: &Path, reason: String) -> RegistryError {
    RegistryError::Credentials { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(config: &str, repository: &str) -> Result<Option<Account>, RegistryError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let path = directory.path().display().to_string();
        let environment = BTreeMap::from([("DOCKER_CONFIG".to_owned(), path)]);
        Credentials::of_environment(&environment).account(&repository.parse().unwrap())
    }

    fn user(name: &str, password: &str) -> Account {
        Account::User { name: name.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn the_longest_name_wins() {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        let config = serde_json::json!({ "auths": {
            "quay.example": { "auth": encode("all:p:with:colons") },
            "quay.example/org": { "auth": encode("org:p") },
            "https://old.example/v2/": { "auth": encode("old:p") },
            "https://index.docker.io/v1/": { "auth": encode("hub:p") },
            "token.example": { "auth": encode("x:"), "identitytoken": "secret" },
            "plain.example": { "username": "u", "password": "p" },
            "empty.example": {},
        }})
        .to_string();
        let cases = [
            ("quay.example/a", Some(user("all", "p:with:colons"))),
            ("quay.example/org", Some(user("org", "p"))),
            ("quay.example/org/a/b", Some(user("org", "p"))),
            ("quay.example/organisation", Some(user("all", "p:with:colons"))),
            ("old.example/a", Some(user("old", "p"))),
            ("debian", Some(user("hub", "p"))),
            ("token.example/a", Some(Account::Identity("secret".to_owned()))),
            ("plain.example/a", Some(user("u", "p"))),
            ("empty.example/a", None),
            ("other.example/a", None),
        ];
        for (repository, expected) in cases {
            assert_eq!(look_up(&config, repository).unwrap(), expected, "{repository}");
        }
    }

    #[test]
    fn the_first_file_with_an_account_decides() {
        let directory = tempfile::tempdir().unwrap();
        let places = [
            ("REGISTRY_AUTH_FILE", "own.json", "own.json"),
            ("DOCKER_CONFIG", "docker", "docker/config.json"),
            ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
            ("XDG_CONFIG_HOME", "config", "config/containers/auth.json"),
            ("HOME", "home", "home/.config/containers/auth.json"),
            ("HOME", "home", "home/.docker/config.json"),
        ];
        for (_, _, file) in places {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let entry = serde_json::json!({ "username": file, "password": "p" });
            std::fs::write(path, serde_json::json!({ "auths": { "a.example": entry } }).to_string()).unwrap();
        }
        let decides = |set: &[usize]| {
            let value = |place: &str| directory.path().join(place).display().to_string();
            let set = set.iter().map(|place| (places[*place].0.to_owned(), value(places[*place].1)));
            let found = Credentials::of_environment(&set.collect()).account(&"a.example/b".parse().unwrap());
            found
                .unwrap()
                .map(|account| places.iter().position(|place| account == user(place.2, "p")).unwrap())
        };
        let cases: [(&[usize], _); 7] = [
            (&[0, 1, 2, 3, 4], Some(0)),
            (&[1, 2, 3, 4], Some(1)),
            (&[2, 3, 4], Some(2)),
            (&[3, 4], Some(3)),
            (&[4], Some(4)),
            (&[], None),
            (&[5], Some(4)),
        ];
        for (set, expected) in cases {
            assert_eq!(decides(set), expected, "{set:?}");
        }
        std::fs::remove_file(directory.path().join(places[4].2)).unwrap();
        assert_eq!(decides(&[5]), Some(5));
    }

    #[test]
    fn errors_of_unreadable_files_show_no_content() {
        for config in
            ["{", r#"{"auths":{"a.example":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":{"a.example":"hunter2"}}"#]
        {
            let error = look_up(config, "a.example/b").unwrap_err().to_string();
            assert!(error.contains("config.json") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(Credentials::default().account(&"a.example/b".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?} {:?}", user("name", "hunter2"), Account::Identity("hunter2".to_owned()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_missing_helper_is_named() {
        let error = look_up(r#"{"credsStore":"no-such"}"#, "a.example/b").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such"), "{error}");
    }
}
