//! Settings of plywood that diskimage-builder lacks: variables that no hook sees.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;

use crate::cli::args::Global;
use crate::cli::report::{Failure, Message};
use crate::disk::ByteSize;
use crate::dropin::Environment;
use crate::element::HookOrder;
use crate::image::{CacheSettings, TrustSettings};
use crate::port::{Limit, Limits};

/// The directory of the store, as for plywood's own commands.
const STORE: &str = "PLYWOOD_STORE";

/// The directory of the `plywood.toml` with settings of registries. Default: the current directory.
const PROJECT: &str = "PLYWOOD_PROJECT";

/// The order of hooks: `element` or `phase`. Default: `element`, then `phase` if element order may
/// be the reason of a failure.
const ORDER: &str = "PLYWOOD_ORDER";

/// A text that stands for the state of the package repositories. Default: today's date.
const PACKAGES_REVISION: &str = "PLYWOOD_PACKAGES_REVISION";

/// Repositories in which steps are looked up, in order.
const CACHE_FROM: &str = "PLYWOOD_CACHE_FROM";

/// The repository to which steps are published.
const CACHE_TO: &str = "PLYWOOD_CACHE_TO";

/// The public keys whose signatures are trusted.
const TRUST_KEYS: &str = "PLYWOOD_TRUST_KEYS";

/// The file of the key that signs published steps.
const SIGN_KEY: &str = "PLYWOOD_SIGN_KEY";

/// The seconds that a hook may run.
const HOOK_TIMEOUT: &str = "PLYWOOD_HOOK_TIMEOUT";

/// The processes and threads that a hook may have at the same time.
const HOOK_PROCESSES: &str = "PLYWOOD_HOOK_PROCESSES";

/// The memory that a hook may use: `2G`.
const HOOK_MEMORY: &str = "PLYWOOD_HOOK_MEMORY";

/// Returns the variable that sets a limit.
pub(super) fn variable_of(limit: Limit) -> &'static str {
    match limit {
        Limit::Time(_) => HOOK_TIMEOUT,
        Limit::Processes(_) => HOOK_PROCESSES,
        Limit::Memory(_) => HOOK_MEMORY,
    }
}

/// All settings.
pub(super) struct Settings {
    pub(super) global: Global,
    /// `None`: element order, then phase order if that fails.
    pub(super) order: Option<HookOrder>,
    pub(super) packages_revision: String,
    pub(super) cache: CacheSettings,
    pub(super) trust: TrustSettings,
    pub(super) limits: Limits,
}

impl Settings {
    /// Reads the caller's settings. An empty variable counts as unset.
    pub(super) fn of(caller: &Environment) -> Result<Self, Failure> {
        let caller = Caller(caller);
        // Callers who build again on another day expect newer packages.
        let today = || Timestamp::now().strftime("%Y-%m-%d").to_string();
        Ok(Self {
            global: Global {
                project: caller.text(PROJECT).map(PathBuf::from),
                store: caller.text(STORE).map(PathBuf::from),
                verbose: 0,
                quiet: false,
            },
            order: caller.one(ORDER)?,
            packages_revision: caller.text(PACKAGES_REVISION).map_or_else(today, str::to_owned),
            cache: CacheSettings { from: caller.list(CACHE_FROM)?, to: caller.one(CACHE_TO)? },
            trust: TrustSettings {
                keys: caller.list(TRUST_KEYS)?.into_iter().collect::<BTreeSet<_>>(),
                require: None,
                sign_with: caller.text(SIGN_KEY).map(PathBuf::from),
            },
            limits: Limits {
                time: caller.value(HOOK_TIMEOUT)?,
                processes: caller.value(HOOK_PROCESSES)?,
                memory: caller.value::<ByteSize>(HOOK_MEMORY)?.map(ByteSize::bytes),
            },
        })
    }
}

struct Caller<'a>(&'a Environment);

impl<'a> Caller<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the one value of a variable.
    fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &str| {
            let value = text.trim().parse();
            value.map_err(|error| Message::plain(format!("{name} is `{text}`: {error}")))
        };
        self.text(name).map(parse).transpose()
    }

    /// Returns the one value of a variable. Refuses a second value, instead of ignoring it
    /// silently.
    fn one<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let mut values = self.list(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            count => Err(Message::plain(format!("{name}: expected one value, found {count}"))),
        }
    }

    /// Returns the values of a variable, separated by commas or white space.
    fn list<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>, Failure> {
        let words = self.text(name).unwrap_or_default().split(|c: char| c == ',' || c.is_whitespace());
        let parse = |word: &str| word.parse().map_err(|error| Message::plain(format!("{name}: {error}")));
        words.filter(|word| !word.is_empty()).map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trust::{Requirement, SigningKey};

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Failure> {
        Settings::of(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn variables_set_repositories_and_trusted_keys() {
        let key = SigningKey::new([1; 32]).public();
        let found = settings(&[
            (CACHE_FROM, "localhost:5000/a, r.example/b"),
            (CACHE_TO, "r.example/b"),
            (TRUST_KEYS, &key.to_string()),
            (SIGN_KEY, "/etc/key"),
            (ORDER, "phase"),
        ]);
        let Settings { cache, trust, order, .. } = found.unwrap();
        let from: Vec<_> = cache.from.iter().map(ToString::to_string).collect();
        assert_eq!(from, ["localhost:5000/a", "r.example/b"]);
        assert_eq!(cache.to.unwrap().to_string(), "r.example/b");
        assert_eq!((trust.policy().requirement, order), (Requirement::Required, Some(HookOrder::Phase)));
        assert_eq!(trust.sign_with, Some("/etc/key".into()));
    }

    #[test]
    fn without_settings_nothing_is_shared() {
        let Settings { cache, trust, order, global, .. } =
            settings(&[(CACHE_FROM, ""), (ORDER, "")]).unwrap();
        assert_eq!((cache, trust, order), (CacheSettings::default(), TrustSettings::default(), None));
        assert_eq!((global.project(), &global.store), (Path::new("."), &None));
    }

    #[test]
    fn limits_of_hooks_are_numbers_and_sizes() {
        let Settings { limits, .. } =
            settings(&[(HOOK_TIMEOUT, "3600"), (HOOK_PROCESSES, " 500 "), (HOOK_MEMORY, "2G")]).unwrap();
        assert_eq!(limits, Limits { time: Some(3600), processes: Some(500), memory: Some(2 << 30) });
        assert_eq!(settings(&[(HOOK_TIMEOUT, "")]).unwrap().limits, Limits::default());
        for (name, value) in [(HOOK_TIMEOUT, "1h"), (HOOK_PROCESSES, "-1"), (HOOK_MEMORY, "many")] {
            let error = settings(&[(name, value)]).err().unwrap().to_string();
            assert!(error.starts_with(&format!("{name} is `{value}`: ")), "{error}");
        }
    }

    #[test]
    fn an_invalid_value_is_named() {
        for (name, value) in
            [(CACHE_FROM, "r.example/a:tag"), (CACHE_TO, "R/"), (TRUST_KEYS, "ed25519:00"), (ORDER, "random")]
                .into_iter()
                .chain([(CACHE_TO, "r.example/a, r.example/b"), (ORDER, "element phase")])
        {
            let error = settings(&[(name, value)]).err().unwrap().to_string();
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
        }
    }
}
