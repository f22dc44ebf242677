//! Which packages a root file system has, by its own package manager.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BuildError;
use super::builder::{Builder, overlay};
use super::job::JobRun;
use crate::distro::base_environment;
use crate::element::Phase;
use crate::oci::DiffId;
use crate::plan::{Plan, StepName};
use crate::port::{Job, Network, SandboxError, View};

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as the package manager writes it.
    pub version: String,
    /// For which processor.
    pub architecture: String,
    /// The source package it was built from.
    pub source: String,
    /// The version of the source package.
    // As manifests of earlier versions spell it, which are in stores.
    #[serde(alias = "source_version")]
    pub source_version: String,
}

/// Prints the installed packages, one a line, fields separated by tabs; nothing on a root without
/// package manager. Busybox has an `rpm` of its own, which lists nothing.
const SCRIPT: &str = r#"
if command -v dpkg-query >/dev/null; then
  dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n'
else case $(rpm --version 2>/dev/null) in RPM*)
  rpm -qa --qf '%{NAME}\t%{EVR}\t%{ARCH}\t%{SOURCERPM}\t%{EVR}\n'
esac; fi
"#;

impl Builder<'_> {
    /// Returns the packages that are installed in the stack of layers, sorted.
    pub fn inventory(&self, plan: &Plan, stack: &[DiffId]) -> Result<Vec<Package>, BuildError> {
        let workspace = self.workspace(stack)?;
        // Not read-only: a root may lack `/proc` and the like, and mount points are made in it.
        let root = self.ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let jobs = JobRun { ports: &self.ports, image: &plan.image, step: &StepName::Final };
        let job = Job {
            argv: ["sh", "-euc", SCRIPT].map(str::to_owned).into(),
            env: base_environment(plan.source_date_epoch),
            cwd: "/".to_owned(),
            view: View::Target,
            binds: Vec::new(),
            network: Network::None,
            traced: false,
            tools: None,
        };
        let printed = match jobs.capture(root.as_ref(), &job, Phase::Cleanup, "inventory") {
            // A root without a shell has no package manager: one program, or a distroless image.
            Err(BuildError::Sandbox(SandboxError::ProgramNotFound { .. })) => Vec::new(),
            printed => printed?,
        };
        root.close()?;
        Ok(parse(&String::from_utf8_lossy(&printed)))
    }
}

fn parse(text: &str) -> Vec<Package> {
    let mut packages: Vec<_> = text.lines().filter_map(parse_line).collect();
    packages.sort();
    packages
}

fn parse_line(line: &str) -> Option<Package> {
    let mut fields = line.split('\t').map(str::to_owned);
    Some(Package {
        name: fields.next()?,
        version: fields.next()?,
        architecture: fields.next()?,
        source: fields.next()?,
        source_version: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_packages_in_order_and_other_lines_nothing() {
        let text = "zlib1g\t1:1.2\tamd64\tzlib\t1:1.2\nwarning: no such thing\nbash\t5.2\tamd64\tbash\t5.2\n";
        let names: Vec<_> = parse(text).into_iter().map(|package| (package.name, package.source)).collect();
        let expected = [("bash", "bash"), ("zlib1g", "zlib")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(names, expected);
    }
}
