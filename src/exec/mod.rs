//! Starts programs of the build host. Only this module does that; hooks run in the sandbox instead.
//!
//! A [`Run`] is one call of a [`Program`]. The program gets only this:
//!
//! | stream | what happens to it |
//! |---|---|
//! | standard input | empty, except in [`Run::ask`] and [`Run::interactive`] |
//! | standard output | discarded by [`Run::run`], returned by [`Run::capture`] and [`Run::ask`], watched by [`Run::watch`] |
//! | standard error | its last 4 KiB are kept for the error |
//! | environment | `PATH`, `LC_ALL=C`, `TZ=UTC`, and the variables of [`Run::env`] |
//!
//! Every child gets `PR_SET_PDEATHSIG`. It dies with the thread that started it, so no child
//! outlives plywood, even after SIGKILL. A thread that starts a program must therefore wait for it.

mod ask;
mod error;
mod limit;
mod run;
mod started;
mod tail;
mod watch;

pub use ask::Answer;
pub use error::ExecError;
pub use limit::raise_open_files;
pub use run::{Background, Program, Run, find};
pub use watch::{Ending, Watched};
