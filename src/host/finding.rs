//! The result of one check.

use schemars::JsonSchema;
use serde::Serialize;

/// `plywood doctor --json`: what the host offers and lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DoctorDocument {
    /// The version of this format: 1. New fields do not change it.
    pub version: u32,
    /// Whether images can be built on this host.
    pub ok: bool,
    /// The results, in display order.
    pub checks: Vec<Finding>,
}

impl DoctorDocument {
    /// Returns the document of these results.
    pub fn new(checks: Vec<Finding>) -> Self {
        let ok = checks.iter().all(|finding| finding.standing != Standing::Lacking);
        Self { version: 1, ok, checks }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The check: `kernel`, `program mmdebstrap`.
    pub check: String,
    /// Whether builds work with it.
    pub standing: Standing,
    /// What was found, as a sentence without full stop.
    pub found: String,
    /// What to do about it: a command, or an edit that the user can make.
    pub cure: Option<String>,
}

/// How the result of a check affects builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Builds work.
    Ok,
    /// Some outputs, bases or commands do not work without it. The finding says which.
    Limited,
    /// No image can be built without it.
    Lacking,
    /// Not tried, because a requirement of the check is missing.
    Untried,
}

impl Standing {
    /// Returns the word in the output of `plywood doctor`.
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Ok => "ok",
            Standing::Limited => "limited",
            Standing::Lacking => "lacking",
            Standing::Untried => "untried",
        }
    }
}

impl Finding {
    /// Returns a finding that needs no cure.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), standing: Standing::Ok, found: found.into(), cure: None }
    }

    /// Returns a finding that prevents all builds.
    pub fn lacking(check: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::with_cure(Standing::Lacking, check, found, cure)
    }

    /// Returns a finding that prevents some builds only.
    pub fn limited(check: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::with_cure(Standing::Limited, check, found, cure)
    }

    /// Returns the finding of a check that could not be tried without root.
    pub fn untried(check: impl Into<String>) -> Self {
        let found = "was not tried: it needs root and the right to mount".to_owned();
        Self { check: check.into(), standing: Standing::Untried, found, cure: None }
    }

    fn with_cure(
        standing: Standing,
        check: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { check: check.into(), standing, found: found.into(), cure: Some(cure.into()) }
    }
}
