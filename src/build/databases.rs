//! The databases of rpm and dnf, which differ from build to build.
//!
//! Both are SQLite databases: their pages depend on the order of all changes, and their rows hold
//! times. A step that has changed one ends with a job that writes it anew in one form. rpm on the
//! build host, if it has one, could be too old or too new to read it, so the job runs in the tools.
//!
//! rpm's database also has the times of all packaged files, which `rpm --verify` compares. They are
//! the same in every build, so layers keep them.

use super::BuildError;
use super::builder::{Builder, KeptTimes};
use super::job::JobRun;
use super::step::StepRun;
use crate::distro::{base_environment, dnf};
use crate::element::Phase;
use crate::plan::Plan;
use crate::port::{Job, Network, Root, SandboxError, View};

impl Builder<'_> {
    /// Runs the tasks of a step on `root`, and writes databases that they have changed anew. Returns
    /// the times of packaged files.
    pub(super) fn carry_out(
        &self,
        plan: &Plan,
        run: &StepRun<'_>,
        root: &dyn Root,
    ) -> Result<KeptTimes, BuildError> {
        run.run(root)?;
        match plan.tools.is_some() && has_database(root)? {
            true => self.normalize_databases(plan, &run.jobs, root),
            false => Ok(KeptTimes::new()),
        }
    }

    pub(super) fn normalize_databases(
        &self,
        plan: &Plan,
        jobs: &JobRun<'_>,
        root: &dyn Root,
    ) -> Result<KeptTimes, BuildError> {
        const TASK: &str = "normalize-databases";
        let tools = self.tools(plan)?;
        let job = Job {
            argv: dnf::normalize(View::HOST_MOUNT),
            env: base_environment(plan.source_date_epoch),
            cwd: "/".to_owned(),
            view: View::HostBare,
            binds: Vec::new(),
            network: Network::None,
            traced: false,
            tools: Some(tools.path().to_owned()),
        };
        let printed = jobs.capture(root, &job, Phase::PostInstall, TASK)?;
        tools.close()?;
        Ok(parse_times(&String::from_utf8_lossy(&printed)))
    }
}

/// Reads one time a line.
fn parse_times(text: &str) -> KeptTimes {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn has_database(root: &dyn Root) -> Result<bool, SandboxError> {
    for path in dnf::RPM_DATABASES {
        if root.look(path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
