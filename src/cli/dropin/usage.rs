//! The sizes of the files of an image, for callers who ask for them.

use std::path::Path;

use super::log::Log;
use crate::cli::report::Failure;
use crate::dropin::UsageReport;
use crate::exec::{Program, Run};

const BASH: Program = Program { name: "bash", package: "bash" };

/// Source: diskimage-builder, `lib/disk-image-create`.
const SCRIPT: &str = r#"set -o pipefail; cd "$1"
du --all --total --one-file-system . | sort -nr |
    numfmt --to=iec-i --padding=7 --suffix=B --field=1 --from-unit=1024"#;

/// Writes the sizes below `root` to the log, the largest first.
pub(super) fn show(report: UsageReport, root: &Path, log: &Log) -> Result<(), Failure> {
    let sizes = Run::new(BASH).args(["-c", SCRIPT, "du"]).arg(root).env("LC_ALL", "C").capture()?;
    report.lines(&String::from_utf8_lossy(&sizes)).iter().for_each(|line| log.say(line));
    Ok(())
}
