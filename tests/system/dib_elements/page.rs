//! The page with the results.

use super::Check;
use crate::common::upstream::VERSION;

/// The text above this line in the page is written by hand.
const MARK: &str =
    "<!-- Below: made from the results of tests/system/dib_elements.rs, by PLYWOOD_UPDATE_DOCS=1. -->\n";

/// Returns `page` with the table of these checks.
pub(super) fn with_results(page: &str, checks: &[&Check]) -> String {
    let (by_hand, _) = page.split_once(MARK).unwrap_or_else(|| panic!("the page has no line {MARK}"));
    let mut sorted = checks.to_vec();
    sorted.sort_by_key(|check| check.element);
    let rows: String = sorted.iter().map(|check| row(check)).collect();
    let count = sorted.len();
    format!(
        "{by_hand}{MARK}\n{count} elements of diskimage-builder {VERSION}, unmodified, on Debian bookworm. They run in element order,\n\
         unless the table says that they need phase order.\n\n\
         | element | status | checked |\n|---|---|---|\n{rows}"
    )
}

fn row(Check { element, status, what, .. }: &Check) -> String {
    format!("| {element} | {} | {what} |\n", status.word())
}
