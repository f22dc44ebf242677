//! Reports of the file sizes in an image.

use super::variables::{Environment, number};

/// A report of the sizes of files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageReport {
    /// Files and directories of at least 10 MiB.
    Large,
    /// All files and directories.
    Full,
}

impl UsageReport {
    /// Parses `DIB_SHOW_IMAGE_USAGE` and `DIB_SHOW_IMAGE_USAGE_FULL`. The second one selects the
    /// full report if the first one is set.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let is_on = |name| number(environment, name).is_some_and(|value| value != 0);
        let extent = if is_on("DIB_SHOW_IMAGE_USAGE_FULL") { UsageReport::Full } else { UsageReport::Large };
        is_on("DIB_SHOW_IMAGE_USAGE").then_some(extent)
    }

    /// Returns the report of the output of `du` and `numfmt --to=iec-i`, with a size and a path in
    /// each line.
    pub fn lines(self, sizes: &str) -> Vec<String> {
        let (title, rule) = match self {
            UsageReport::Large => ("Image size report (files > 10MiB)", "================================="),
            UsageReport::Full => ("Image size report", "================="),
        };
        let sizes = sizes.lines().filter(|line| self == UsageReport::Full || is_large(line));
        let head = [rule, title, rule];
        head.into_iter()
            .chain(sizes)
            .chain(["===== end image size report ====="])
            .map(str::to_owned)
            .collect()
    }
}

/// A number below ten has a decimal place.
fn is_large(line: &str) -> bool {
    let size = line.split_whitespace().next().unwrap_or_default();
    let is_of = |unit: &str| size.ends_with(unit);
    is_of("GiB") || is_of("TiB") || is_of("PiB") || (is_of("MiB") && !size.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::environment;

    #[test]
    fn a_report_has_large_entries_or_all() {
        let sizes = " 1.2GiB\ttotal\n  10MiB\t./usr\n 9.9MiB\t./etc\n 4.0KiB\t./tmp/10MiB\n";
        let large = UsageReport::Large.lines(sizes);
        assert_eq!(large[3..], [" 1.2GiB\ttotal", "  10MiB\t./usr", "===== end image size report ====="]);
        assert_eq!(UsageReport::Full.lines(sizes).len(), 8);
        for (variables, report) in [
            (&[("DIB_SHOW_IMAGE_USAGE_FULL", "1")][..], None),
            (&[("DIB_SHOW_IMAGE_USAGE", "0")], None),
            (&[("DIB_SHOW_IMAGE_USAGE", "1")], Some(UsageReport::Large)),
            (&[("DIB_SHOW_IMAGE_USAGE", "1"), ("DIB_SHOW_IMAGE_USAGE_FULL", "1")], Some(UsageReport::Full)),
        ] {
            assert_eq!(UsageReport::of(&environment(variables)), report, "{variables:?}");
        }
    }
}
