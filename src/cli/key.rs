//! `plywood key`: manages the key that signs published steps.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::answer::{remark, say};
use super::args::Key;
use super::report::{Failure, Message};
use crate::engine::{Session, load_file, signing_key};
use crate::load;

/// Generates a key, or shows the public half of one.
pub(super) fn run(command: &Key, session: &Session<'_>) -> Result<ExitCode, Failure> {
    match command {
        Key::Generate { out } => generate(&out.clone().map_or_else(default_path, Ok)?),
        Key::Show { sign_key } => show(session, sign_key.as_ref()),
    }
}

fn generate(path: &Path) -> Result<ExitCode, Failure> {
    let key = load::generate_key(path)?;
    say!("{}", key.public())?;
    remark!(
        "wrote the signing key to {}\n\nhint: to sign with it and to trust it, write into plywood.toml:\n\n  \
         [trust]\n  keys = [\"{}\"]\n  sign-with = {}",
        path.display(),
        key.public(),
        // TOML quoting: a path may contain quotes and backslashes.
        toml::Value::from(path.display().to_string()),
    );
    Ok(ExitCode::SUCCESS)
}

fn show(session: &Session<'_>, named: Option<&PathBuf>) -> Result<ExitCode, Failure> {
    let path = match named {
        Some(path) => Some(path.clone()),
        // An unreadable plywood.toml is an error, because it may name another default key.
        None => load_file(session)?.and_then(|file| signing_key(&file, &session.project)),
    };
    let path = path.map_or_else(default_path, Ok)?;
    say!("{}", load::load_key(&path)?.public())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the default path of the key.
fn default_path() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/etc/plywood/signing.key"));
    }
    let home = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = home("XDG_CONFIG_HOME").or_else(|| home("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("plywood/signing.key")).ok_or_else(|| {
        Message::with_hint("cannot choose a file for the key: HOME is not set", "add `--out FILE`")
    })
}
