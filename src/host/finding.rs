//! The result of one check.

use schemars::JsonSchema;
use serde::Serialize;

/// `plywood doctor --json`: what the host has and lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DoctorDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// Whether anything can be built here.
    pub ok: bool,
    /// The results, in the order in which they are shown.
    pub checks: Vec<Finding>,
}

impl DoctorDocument {
    /// Makes the document of these results.
    pub fn new(checks: Vec<Finding>) -> Self {
        let ok = checks.iter().all(|finding| finding.standing != Standing::Lacking);
        Self { version: 1, ok, checks }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// What was checked: `kernel`, `program mmdebstrap`.
    pub check: String,
    /// Whether builds work with it.
    pub standing: Standing,
    /// What was found, as a sentence without full stop.
    pub found: String,
    /// What to do about it: a command, or an edit that the user can make.
    pub cure: Option<String>,
}

/// How builds fare with the result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As needed.
    Ok,
    /// Some outputs, bases or commands do not work without it. The finding says which.
    Limited,
    /// Nothing can be built without it.
    Lacking,
    /// It could not be tried: something else is lacking first.
    Untried,
}

impl Standing {
    /// Returns its word in the output of `plywood doctor`.
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
    /// Makes a finding that needs no cure.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), standing: Standing::Ok, found: found.into(), cure: None }
    }

    /// Makes a finding without which nothing can be built.
    pub fn lacking(check: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::with_cure(Standing::Lacking, check, found, cure)
    }

    /// Makes a finding that stands in the way of some builds only.
    pub fn limited(check: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::with_cure(Standing::Limited, check, found, cure)
    }

    /// Makes the finding of a check that could not be tried without root.
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
