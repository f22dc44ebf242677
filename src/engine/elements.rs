//! The elements that a project can use.

use std::sync::Arc;

use super::failure::{Failure, Hint, Message};
use super::project::Project;
use crate::element::{Element, Finding, check_elements, nearest};
use crate::load;

impl Project {
    /// Returns the element of this name.
    pub(crate) fn element(&self, name: &str) -> Result<Arc<Element>, Failure> {
        if let Some(unusable) = self.catalog.unusable().get(name) {
            return Err(unusable.clone().into());
        }
        self.catalog.get(name).cloned().ok_or_else(|| {
            let places: Vec<_> = self.element_path.iter().map(|dir| format!("`{}`", dir.display())).collect();
            let known = self.catalog.iter().map(|element| element.name.as_str());
            let hint = nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
            Message::with_hint(
                format!("element `{name}` not found in {}", places.join(", ")),
                hint.map_or_else(|| Hint::call(["elements", "list"]), Hint::from),
            )
        })
    }

    /// Checks these elements, or all, for mistakes.
    pub(crate) fn check_elements(&self, wanted: &[String]) -> Result<Vec<Finding>, Failure> {
        // A misspelled name must not look like an element without mistakes.
        for name in wanted {
            self.element(name)?;
        }
        let mut findings = check_elements(&self.catalog, &self.provided_names()?);
        findings.extend(load::check_syntax(&self.catalog)?);
        let is_wanted = |finding: &Finding| wanted.iter().any(|name| name == finding.element.as_str());
        findings.retain(|finding| wanted.is_empty() || is_wanted(finding));
        Ok(findings)
    }
}
